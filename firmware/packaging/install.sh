#!/usr/bin/env bash
# Installs screamd on a board that already runs its own system (Raspberry Pi OS, JetPack, Debian, Ubuntu), or upgrades it there.
#   sudo ./install.sh [--site FILE] [--password FILE] [PACKAGE.deb]
# --site FILE       becomes /etc/screamd/site.toml, after `screamd check` has found nothing wrong with it; it must name a
#                   microphone
# --password FILE   the broker's password; from then on only root and the service can read it
# PACKAGE.deb       else the one beside this script for this machine
# From a PC:  scp install.sh screamd_*_arm64.deb site.toml board:  &&  ssh -t board sudo ./install.sh --site site.toml
# A site file that is there stays as it is unless --site is given (then as site.toml.before); upgrades ask nothing.
# Hubs go by names that end in .local: libnss-mdns and avahi-daemon come along where nothing here resolves those.
set -euo pipefail

fail() { echo "install.sh: $*" >&2; exit 1; }
site= password= package=
while [ $# -gt 0 ]; do
    case $1 in
        -h | --help) sed -n '2,10s/^# \{0,1\}//p' "$0"; exit 0 ;;
        --site | --password)
            [ $# -ge 2 ] || fail "$1 needs a file"
            [ -f "$2" ] || fail "$2: no such file"
            [ "$1" = --site ] && site=$2 || password=$2
            shift 2
            ;;
        -*) fail "unknown option $1 (see --help)" ;;
        *) [ -z "$package" ] || fail "one package, not two"; package=$1; shift ;;
    esac
done
[ "$(id -u)" = 0 ] || fail "run me as root (sudo $0 ...)"
command -v dpkg >/dev/null || fail "this system has no dpkg: Raspberry Pi OS, Debian, Ubuntu and JetPack have"
arch=$(dpkg --print-architecture)
case $arch in
    arm64 | amd64) ;;
    armhf) fail "this is a 32-bit system; screamd needs the 64-bit one (Raspberry Pi Imager: \"64-bit\")" ;;
    *) fail "there is no package for $arch" ;;
esac
if [ -z "$package" ]; then
    package=$(find "$(dirname "$0")" -maxdepth 1 -name "screamd_*_$arch.deb" | sort -V | tail -1)
    [ -n "$package" ] || fail "no screamd_*_$arch.deb beside this script; name one"
fi
[ -f "$package" ] || fail "$package: no such file"
[ "$(dpkg-deb -f "$package" Package)" = screamd ] || fail "$package is not screamd's package"
[ "$(dpkg-deb -f "$package" Architecture)" = "$arch" ] || fail "$package is not for this machine ($arch)"
package=$(realpath "$package")

# The last glibc of JetPack 4 is 2.27; dpkg would say so too, in more words.
glibc=$(getconf GNU_LIBC_VERSION | cut -d' ' -f2)
wanted=$(dpkg-deb -f "$package" Depends | grep -oE 'libc6 \(>= [0-9.]+' | grep -oE '[0-9.]+$')
dpkg --compare-versions "$glibc" ge "$wanted" || fail "glibc $glibc is too old, $wanted is needed (JetPack 4 is not supported)"

# systemd before 251 (JetPack 5 and 6) looks into no credential store: there a file that the service's user reads has to do.
credential=mqtt.password stored=/etc/credstore/screamd.mqtt.password
if command -v systemctl >/dev/null; then
    version=$(systemctl --version | awk 'NR == 1 { print $2 + 0 }')
    [ "$version" -ge 251 ] || credential=/etc/screamd/mqtt.password stored=/etc/screamd/mqtt.password
fi
# A password is in place before the service starts for the first time. Where one works already it stays until the site file has been checked.
store_password() {
    [ -n "$password" ] || return 0
    if [ $credential = mqtt.password ]; then
        install -d -m 0700 /etc/credstore
        install -m 0600 "$password" $stored
    elif [ -d /etc/screamd ] && getent group screamd >/dev/null; then
        # Folder and group come with the package.
        install -m 0640 -o root -g screamd "$password" $stored
    fi
}
[ -e $stored ] || store_password

had_site=
[ ! -e /etc/screamd/site.toml ] || had_site=yes
export DEBIAN_FRONTEND=noninteractive
# The site file that is there stays, whatever a new default says.
keep=(-o Dpkg::Options::=--force-confdef -o Dpkg::Options::=--force-confold)
# What is named is what is installed then: apt takes another build of the same version for the one that it has.
install_package() { apt-get install -y -q --no-install-recommends --reinstall --allow-downgrades "${keep[@]}" "$package"; }
install_package || {
    apt-get update -q
    install_package
}
# Else homeassistant.local, which setup finds and offers, is a name that nothing here knows. Without a network the alarm is installed all the same.
install_mdns() { apt-get install -y -q --no-install-recommends libnss-mdns avahi-daemon; }
if ! grep -qs '^hosts:.*mdns' /etc/nsswitch.conf; then
    install_mdns || { apt-get update -q && install_mdns; } ||
        echo "install.sh: libnss-mdns is not installed: a hub's name that ends in .local is not found; name its address instead" >&2
fi

if [ -n "$password" ]; then
    [ -e $stored ] || store_password
    echo "in the site file: password_file = \"$credential\""
fi

# What was set on the device is not lost where it is replaced: a copy beside it, none in another's place.
keep_before() {
    local kept=/etc/screamd/site.toml.before count=0
    ! cmp -s "$site" /etc/screamd/site.toml || return 0
    while [ -e "$kept" ]; do
        ! cmp -s /etc/screamd/site.toml "$kept" || return 0
        count=$((count + 1))
        kept=/etc/screamd/site.toml.before.$count
    done
    cp -p /etc/screamd/site.toml "$kept"
    echo "the site file before is $kept"
}
if [ -n "$site" ]; then
    checks=$(mktemp -d)
    trap 'rm -rf "$checks"' EXIT
    # As the service sees them: what is in the store already, and the password that is new.
    if [ $credential = mqtt.password ]; then
        for file in /etc/credstore/screamd.*; do
            [ ! -f "$file" ] || install -m 0600 "$file" "$checks/${file##*/screamd.}"
        done
        [ -z "$password" ] || install -m 0600 "$password" "$checks/mqtt.password"
    fi
    said=$(CREDENTIALS_DIRECTORY=$checks screamd check --config "$site" 2>&1) ||
        { printf '%s\n' "$said" >&2; fail "$site has mistakes; the site file in force is unchanged"; }
    printf '%s\n' "$said"
    # For `check` a recording may do; here it would be an alarm that hears nothing.
    ! grep -q 'audio.device.: missing' <<<"$said" || fail "$site: names no microphone (audio.device); the site file in force is unchanged"
    [ -z "$had_site" ] || keep_before
    install -m 0644 "$site" /etc/screamd/site.toml
fi

store_password
if [ -d /run/systemd/system ]; then
    # Reads the package's 20-screamd.conf: the hardware's watchdog is armed now and not at the next boot.
    systemctl daemon-reexec || true
    case $(systemctl is-enabled screamd 2>/dev/null || true) in
        disabled | masked*) echo "screamd is disabled here and stays so: sudo systemctl enable --now screamd" ;;
        *)
            systemctl restart screamd
            systemctl --no-pager --lines=5 status screamd || true
            ;;
    esac
else
    echo "no systemd here: start it with  screamd run --config /etc/screamd/site.toml"
fi
# A bundle of this version or a higher one goes on before the package; so does one that is on trial.
current=$(screamd update status 2>/dev/null | awk '$1 == "current" { print $2 }' || true)
case $current in
    '' | package | package,) ;;
    *) echo "what runs is a bundle, ${current%,}, and not this package: sudo screamd update rollback, until \`screamd update status\` says: current package" ;;
esac
echo "installed screamd $(dpkg-query -W -f '${Version}' screamd); next: sudo screamd selftest --config /etc/screamd/site.toml"
