#!/bin/sh
# Written by host-tools provision. As root, at a card's first boot and at the first after it was provisioned again: secrets off the boot
# partition, the package, the site file, `screamd check`, and the board's own LED says how it went: slow blink while at work, steady when
# well, fast blink when something is wrong. screamd-result.txt on the boot partition says it in words, for whoever puts the card into a
# laptop.
#
# SCREAMD_ROOT is for tests: every path of the device is below it. Our own image (boards/image) runs this from its read-only root:
# there SCREAMD_BOOT is the card's partition, SCREAMD_DONE a mark and SCREAMD_LOCALTIME the time zone on the data partition, and the
# package is there already.
set -u
root=${SCREAMD_ROOT:-}
boot=${SCREAMD_BOOT:-$(dirname "$(readlink -f "$0")")}
done_mark=${SCREAMD_DONE:-$root/var/lib/screamd-first-boot.done}
store=$root/etc/credstore
# Secrets that were taken off the card wait here until the site file that names them is known to be fine.
waiting=$store/.waiting
# What the card asks for, as the mark holds it. Of what is taken off the card, whatever lies there is new.
asked=$(cat "$boot/screamd-site.toml" "$boot/screamd-timezone" "$boot"/screamd-board-*.toml "$boot"/screamd-key-*.pub 2>/dev/null | cksum)
new=
for file in "$boot"/screamd-secret-* "$boot"/screamd-*.deb "$waiting"/screamd.*; do
    [ ! -f "$file" ] || new=yes
done
again=
if [ -e "$done_mark" ]; then
    again=yes
    [ -f "$boot/screamd-site.toml" ] || exit 0
    [ "$(cat "$done_mark")" = "$asked" ] && [ -z "$new" ] && exit 0
fi

# Before the rest, and for each boot to come: a service that goes on where a boot was cut. cloud-init marks its runcmd as run
# before it starts it, and systemd.run is gone from the command line. No systemctl: cloud-init's bootcmd runs before systemd would answer.
if [ "${1:-}" = arm ]; then
    units=$root/etc/systemd/system
    mkdir -p "$units/multi-user.target.wants"
    cat > "$units/screamd-first-boot.new" <<'UNIT'
[Unit]
Description=screamd's first boot
RequiresMountsFor=/boot/firmware
ConditionPathExists=/boot/firmware/screamd-first-boot.sh
# Not cloud-final.service, which comes after multi-user.target: a cycle.
After=cloud-init.service cloud-init-network.service cloud-config.service
[Service]
Type=oneshot
ExecStart=/bin/sh /boot/firmware/screamd-first-boot.sh
[Install]
WantedBy=multi-user.target
UNIT
    sync
    mv "$units/screamd-first-boot.new" "$units/screamd-first-boot.service"
    ln -sf ../screamd-first-boot.service "$units/multi-user.target.wants/screamd-first-boot.service"
    sync
    exit 0
fi

led() { # trigger, on ms, off ms
    for dir in "$root/sys/class/leds/ACT" "$root/sys/class/leds/led0"; do
        [ -d "$dir" ] || continue
        echo "$1" > "$dir/trigger"
        [ "$1" != timer ] || { echo "$2" > "$dir/delay_on"; echo "$3" > "$dir/delay_off"; }
        return 0
    done
}
# Overwritten before it is removed: FAT leaves the blocks of a removed file as they are. Renamed before that: whenever the power is
# cut, a file that still has its name is whole.
wipe() {
    gone=${1%.taken}.taken
    [ "$1" = "$gone" ] || { mv "$1" "$gone" && sync; } || return 1
    dd if=/dev/zero of="$gone" bs=1 count="$(wc -c < "$gone")" conv=notrunc,fsync 2>/dev/null
    rm -f "$gone"
    sync
    [ ! -e "$gone" ]
}
result() {
    printf '%s\n' "$*" > "$boot/screamd-result.txt"
    printf 'screamd first boot: %s\n' "$*" >&2
    sync
}
failed() {
    result "FAILED: $*"
    led timer 100 100
    exit 1
}
led timer 500 500

# From here on the card is not done with, until it is: a cut, or what is refused, is tried again at the next boot.
if [ -n "$again" ]; then
    : > "$done_mark"
    sync
fi

# Secrets first: whatever fails later, they do not stay on a partition that any laptop reads.
umask 077
mkdir -p "$waiting"
rm -f "$waiting"/*-
for file in "$boot"/*.taken; do
    [ ! -f "$file" ] || wipe "$file" || failed "cannot wipe $file"
done
for file in "$boot"/screamd-secret-*; do
    [ -f "$file" ] || continue
    name=${file##*/screamd-secret-}
    kept=$waiting/screamd.$name
    # FAT's files have whatever mode the mount gives them.
    cp "$file" "$kept-" && chmod 600 "$kept-" && sync && mv "$kept-" "$kept" && sync && wipe "$file" ||
        failed "cannot move the secret $name"
done
# cloud-init has read it: the network stands in /etc/netplan, and its key need not stay here.
if [ -f "$boot/network-config" ]; then
    country=$(sed -n 's/^ *regulatory-domain: "\([A-Z][A-Z]\)"$/\1/p' "$boot/network-config")
    # Raspberry Pi OS keeps the radio off until somebody has named a country.
    if [ -n "$country" ]; then
        raspi-config nonint do_wifi_country "$country" >/dev/null 2>&1
        nmcli radio wifi on >/dev/null 2>&1
    fi
    sync
    wipe "$boot/network-config" || failed "cannot wipe network-config"
fi

umask 022
# As the service sees it: secrets by their names, and by the release that runs.
check() {
    secrets=$(mktemp -d) || failed "no room for a folder in ${TMPDIR:-/tmp}"
    for file in "$store"/screamd.* "$waiting"/screamd.*; do
        [ ! -f "$file" ] || cp "$file" "$secrets/${file##*/screamd.}"
    done
    said=$(CREDENTIALS_DIRECTORY=$secrets screamd update exec -- check --config "$1" 2>&1)
    status=$?
    rm -rf "$secrets"
    [ "$status" = 0 ] || failed "screamd check: $(printf '%s' "$said" | head -n 5 | tr '\n' ' ')$2"
    # For `check` a recording may do; here it would be an alarm that hears nothing.
    deaf=$(printf '%s\n' "$said" | grep -m 1 'audio.device.: missing')
    [ -z "$deaf" ] || failed "screamd check: $deaf$2"
}
# A board of one's own, which the site file names: before anybody checks that.
take_boards() {
    for file in "$boot"/screamd-board-*.toml; do
        [ -f "$file" ] || continue
        boards=$root/etc/screamd/boards
        kept=$boards/${file##*/screamd-board-}
        mkdir -p "$boards" && cp "$file" "$kept.new" && chmod 644 "$kept.new" && sync && mv "$kept.new" "$kept" ||
            failed "cannot write the board ${file##*/screamd-board-}"
    done
}
# None where only a site file was changed; our image has it.
install_package() {
    [ -z "${SCREAMD_BOOT:-}" ] && ls "$boot"/screamd-*.deb >/dev/null 2>&1 || return 0
    said=$(DEBIAN_FRONTEND=noninteractive dpkg --force-confold -i "$boot"/screamd-*.deb 2>&1) ||
        failed "the package was not installed: $(printf '%s' "$said" | tail -n 3 | tr '\n' ' ')"
}
take_site_and_secrets() {
    for file in "$waiting"/screamd.*; do
        [ ! -f "$file" ] || mv "$file" "$store/" || failed "cannot store ${file##*/screamd.}"
    done
    sync
    # Of what is kept, not of what was moved now: the boot before may have been cut here.
    extra=
    for file in "$store"/screamd.*; do
        [ -f "$file" ] || continue
        name=${file##*/screamd.}
        case $name in
            mqtt.password | ca.pem | client.pem | client.key | ca.crl) ;; # The package's unit names these.
            *) extra="$extra\nLoadCredential=$name:screamd.$name" ;;
        esac
    done
    if [ -n "$extra" ]; then
        drop_ins=$root/etc/systemd/system/screamd.service.d
        mkdir -p "$drop_ins"
        printf "[Service]$extra\n" > "$drop_ins/20-secrets.new" && sync && mv "$drop_ins/20-secrets.new" "$drop_ins/20-secrets.conf" && sync ||
            failed "cannot write the names of the secrets"
    fi
    mkdir -p "$root/etc/screamd"
    site=$root/etc/screamd/site.toml
    keep_before "$site"
    cp "$boot/screamd-site.toml" "$site.new" && chmod 644 "$site.new" && sync && mv "$site.new" "$site" || failed "cannot write the site file"
    take_keys
}
# What was set on the device by hand is not lost where a card replaces it: a copy beside it, none in another's place.
keep_before() {
    [ -f "$1" ] && ! cmp -s "$1" "$boot/screamd-site.toml" || return 0
    kept=$1.before
    count=0
    while [ -e "$kept" ]; do
        # The boot before was cut here.
        ! cmp -s "$1" "$kept" || return 0
        count=$((count + 1))
        kept=$1.before.$count
    done
    cp "$1" "$kept.new" && sync && mv "$kept.new" "$kept" || failed "cannot keep the site file that was there"
    [ -z "$again" ] || note="$note; the site file before is ${kept#"$root"}"
}
# A card that names keys names all that it vouches for: one that it had and has no more was stolen or is retired. A card that names none
# says nothing of keys. Those that somebody has put there by hand are not its own to remove; whoever reads the result knows of them.
take_keys() {
    keys=$root/etc/screamd/update-keys
    mkdir -p "$keys"
    named=
    for file in "$boot"/screamd-key-*.pub; do
        [ -f "$file" ] || continue
        named=yes
        key=$keys/card-${file##*/screamd-key-}
        # Whatever mode the mount gives it: the service reads it before it offers an update.
        cp "$file" "$key.new" && chmod 644 "$key.new" && sync && mv "$key.new" "$key" || failed "cannot write an update key"
    done
    others=
    for key in "$keys"/*.pub; do
        [ -f "$key" ] || continue
        name=${key##*/}
        case $named$name in
            yescard-*)
                [ -f "$boot/screamd-key-${name#card-}" ] || rm "$key" || failed "cannot take away the update key $name"
                ;;
            *) has_key "$key" || others="$others $name" ;;
        esac
    done
    sync
    [ -z "$others" ] || note="$note; trusted for updates, and not on this card:$others"
}
has_key() {
    for file in "$boot"/screamd-key-*.pub; do
        ! cmp -s "$1" "$file" || return 0
    done
    return 1
}
note=
take_boards
if [ -n "$again" ]; then
    # A device that works keeps what it has until the card's site file is known to be fine; dpkg keeps it, too.
    install_package
    check "$boot/screamd-site.toml" "; the device goes on with the site file and secrets that it had"
    take_site_and_secrets
else
    # The site file before the package, so that the service starts with it.
    take_site_and_secrets
    install_package
fi
# Of no weight beside the alarm itself.
if [ -s "$boot/screamd-timezone" ]; then
    zone=$(head -n 1 "$boot/screamd-timezone")
    localtime=${SCREAMD_LOCALTIME:-$root/etc/localtime}
    if [ -f "$root/usr/share/zoneinfo/$zone" ] && ln -sf "/usr/share/zoneinfo/$zone" "$localtime.new" && mv -T "$localtime.new" "$localtime"; then
        # Debian's own second place for it.
        [ ! -f "$root/etc/timezone" ] || printf '%s\n' "$zone" > "$root/etc/timezone"
    else
        note="$note; but quiet hours are not those of $zone, which cannot be set here"
    fi
fi
# Nobody sits at the console to answer its wizard.
systemctl disable --now userconfig.service >/dev/null 2>&1
systemctl daemon-reload
systemctl enable screamd.service >/dev/null 2>&1
# Its words first: the service would say less, and in a journal that nobody here can read. Started it is all the same: without its hub,
# say, it is an alarm still, and what ran before it may be a site that was nobody's.
checked=yes
[ -n "$again" ] || (check "$root/etc/screamd/site.toml" "") || checked=
if ! systemctl restart screamd.service && [ -n "$checked" ]; then failed "the service did not start: journalctl -u screamd"; fi
[ -n "$checked" ] || exit 1
# A bundle of the package's version or a higher one goes on before it.
if [ -z "${SCREAMD_BOOT:-}" ] && ls "$boot"/screamd-*.deb >/dev/null 2>&1; then
    current=$(screamd update status 2>/dev/null | sed -n 's/^current  *\([^ ,]*\).*/\1/p')
    case $current in
        '' | package) ;;
        *) note="$note; what runs is the bundle $current, not the package (screamd update rollback)" ;;
    esac
fi

mkdir -p "$(dirname "$done_mark")"
# Before its mark: what the mark stands for is on the disk.
sync
[ ! -d "$root/etc/cloud" ] || touch "$root/etc/cloud/cloud-init.disabled"
printf '%s\n' "$asked" > "$done_mark.new" && sync && mv "$done_mark.new" "$done_mark" || failed "cannot write $done_mark"
sync
rm -f "$boot"/screamd-*.deb
result "well: installed, checked and started$note"
led default-on
exit 0
