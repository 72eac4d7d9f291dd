#!/bin/sh
# Written by host-tools provision. Once, as root, at a card's first boot: secrets off the boot partition, the package, the site
# file, `screamd check`, and the board's own LED says how it went: slow blink while at work, steady when well, fast blink when
# something is wrong. screamd-result.txt on the boot partition says it in words, for whoever puts the card into a laptop.
#
# SCREAMD_ROOT is for tests: every path of the device is below it. Our own image (boards/image) runs this from its read-only root:
# there SCREAMD_BOOT is the card's partition, SCREAMD_DONE a mark on the data partition, and the package is there already.
set -u
root=${SCREAMD_ROOT:-}
boot=${SCREAMD_BOOT:-$(dirname "$(readlink -f "$0")")}
done_mark=${SCREAMD_DONE:-$root/var/lib/screamd-first-boot.done}
[ -e "$done_mark" ] && exit 0

led() { # trigger, on ms, off ms
    for dir in "$root/sys/class/leds/ACT" "$root/sys/class/leds/led0"; do
        [ -d "$dir" ] || continue
        echo "$1" > "$dir/trigger"
        [ "$1" != timer ] || { echo "$2" > "$dir/delay_on"; echo "$3" > "$dir/delay_off"; }
        return 0
    done
}
# Overwritten before it is removed: FAT leaves the blocks of a removed file as they are.
wipe() {
    dd if=/dev/zero of="$1" bs=1 count="$(wc -c < "$1")" conv=notrunc,fsync 2>/dev/null
    rm -f "$1"
    sync
}
# Wiped, and the power was cut before its name was gone: what it held is in its place already.
blank() {
    [ -z "$(tr -d '\000' < "$1" | head -c 1)" ]
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

# Secrets first: whatever fails later, they do not stay on a partition that any laptop reads.
umask 077
store=$root/etc/credstore
extra=
mkdir -p "$store"
for file in "$boot"/screamd-secret-*; do
    [ -f "$file" ] || continue
    name=${file##*/screamd-secret-}
    if blank "$file"; then
        rm -f "$file"
    else
        # FAT's files have whatever mode the mount gives them.
        cp "$file" "$store/screamd.$name" && chmod 600 "$store/screamd.$name" && sync && wipe "$file" ||
            failed "cannot move the secret $name"
    fi
    case $name in
        mqtt.password | ca.pem | client.pem | client.key | ca.crl) ;; # The package's unit names these.
        *) extra="$extra\nLoadCredential=$name:screamd.$name" ;;
    esac
done
if [ -n "$extra" ]; then
    mkdir -p "$root/etc/systemd/system/screamd.service.d"
    printf "[Service]$extra\n" > "$root/etc/systemd/system/screamd.service.d/20-secrets.conf"
fi
# cloud-init has done its work: the network stands in /etc/netplan, and its key need not stay here.
if [ -d "$root/etc/cloud" ]; then
    touch "$root/etc/cloud/cloud-init.disabled"
    [ ! -f "$boot/network-config" ] || wipe "$boot/network-config"
fi

umask 022
mkdir -p "$root/etc/screamd/update-keys"
# The site file before the package, so that the service starts with it; dpkg keeps what is there.
cp "$boot/screamd-site.toml" "$root/etc/screamd/site.toml" || failed "cannot write the site file"
chmod 644 "$root/etc/screamd/site.toml"
for file in "$boot"/screamd-key-*.pub; do
    [ -f "$file" ] || continue
    key=$root/etc/screamd/update-keys/${file##*/screamd-key-}
    # Whatever mode the mount gives it: the service reads it before it offers an update.
    cp "$file" "$key" && chmod 644 "$key" || failed "cannot write an update key"
done
if [ -z "${SCREAMD_BOOT:-}" ]; then
    said=$(DEBIAN_FRONTEND=noninteractive dpkg --force-confold -i "$boot"/screamd-*.deb 2>&1) ||
        failed "the package was not installed: $(printf '%s' "$said" | tail -n 3 | tr '\n' ' ')"
fi
# Nobody sits at the console to answer its wizard.
systemctl disable --now userconfig.service >/dev/null 2>&1
systemctl daemon-reload
systemctl enable screamd.service >/dev/null 2>&1
systemctl restart screamd.service || failed "the service did not start: journalctl -u screamd"

# As the service sees them: secrets by their names.
secrets=$(mktemp -d)
for file in "$store"/screamd.*; do
    [ ! -f "$file" ] || cp "$file" "$secrets/${file##*/screamd.}"
done
said=$(CREDENTIALS_DIRECTORY=$secrets screamd check --config "$root/etc/screamd/site.toml" 2>&1)
status=$?
rm -rf "$secrets"
[ "$status" = 0 ] || failed "screamd check: $(printf '%s' "$said" | head -n 5 | tr '\n' ' ')"

mkdir -p "$(dirname "$done_mark")"
touch "$done_mark"
systemctl disable screamd-first-boot.service >/dev/null 2>&1
rm -f "$boot"/screamd-*.deb
result "well: installed, checked and started"
led default-on
exit 0
