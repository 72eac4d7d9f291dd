#!/usr/bin/env bash
# The amd64 package in a fresh Debian 12: installed, run, upgraded, removed, purged; and install.sh with a site file. As root; needs
# Debian's archive (debootstrap, 40 s) and firmware/packaging/build-deb.sh's package. Leaves nothing but target/packages-test.
#   tests/packages.sh [PACKAGE.deb]
set -euo pipefail
cd "$(dirname "$0")/.."
. .cargo/prepare.sh
. .cargo/arm64-apt.sh
[ "$(id -u)" = 0 ] || { echo "tests/packages.sh: run me as root" >&2; exit 1; }
need_packages debootstrap
target=${CARGO_TARGET_DIR:-target}
if [ $# = 0 ]; then
    firmware/packaging/build-deb.sh --fast amd64
    set -- "$(find "$target/debian" -name 'screamd_*_amd64.deb' | sort -V | tail -1)"
fi
package=$(realpath "$1")

work=$(realpath -m "$target/packages-test")
root=$work/root
mkdir -p "$work"
began=$SECONDS
step() { printf '%4d s  %s\n' $((SECONDS - began)) "$*"; }
fail() { echo "FAILED: $*" >&2; exit 1; }
inside() { env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive chroot "$root" "$@"; }
holds() { [ -e "$root/$1" ] || [ -L "$root/$1" ] || fail "$1 is missing"; }
lacks() { [ ! -e "$root/$1" ] && [ ! -L "$root/$1" ] || fail "$1 is still there"; }

mirror=$(debian_mirror bookworm)
[ -n "$mirror" ] || fail "apt knows no Debian 12 (bookworm) here"
if [ ! -f "$work/bookworm.tar" ]; then
    rm -rf "$root"
    # The library beforehand: what is tested is our package, not the mirror. passwd and sysusers are both tried below.
    debootstrap --variant=minbase --include=libasound2,ca-certificates bookworm "$root" "$mirror" >"$work/debootstrap.log" 2>&1 ||
        { tail -5 "$work/debootstrap.log" >&2; fail "debootstrap"; }
    tar -C "$root" -cf "$work/bookworm.tar.new" . && mv "$work/bookworm.tar.new" "$work/bookworm.tar"
fi
fresh() {
    rm -rf "$root" && mkdir -p "$root" && tar -C "$root" -xf "$work/bookworm.tar"
    cp "$package" "$root/tmp/screamd.deb"
}
# The same package as a later release, with another default site file where a third argument says so.
later() { # OUT VERSION [LINE]
    rm -rf "$work/later"
    dpkg-deb -R "$package" "$work/later"
    sed -i "s/^Version: .*/Version: $2/" "$work/later/DEBIAN/control"
    if [ -n "${3:-}" ]; then
        echo "$3" >>"$work/later/etc/screamd/site.toml"
    fi
    dpkg-deb --root-owner-group -Zgzip -z1 -b "$work/later" "$root/tmp/$1" >/dev/null
}

fresh
step "Debian 12 is there ($(du -sm "$root" | cut -f1) MiB)"

inside dpkg -i /tmp/screamd.deb >"$work/log" 2>&1 || { cat "$work/log"; fail "dpkg -i"; }
for path in usr/bin/screamd usr/bin/host-tools usr/lib/systemd/system/screamd.service usr/lib/systemd/system.conf.d/20-screamd.conf usr/lib/sysusers.d/screamd.conf \
    usr/lib/udev/rules.d/60-screamd.rules etc/screamd/site.toml usr/share/screamd/boards/raspberry-pi-5.toml \
    usr/share/screamd/models/default/manifest.toml usr/share/screamd/models/default/LICENSE usr/share/doc/screamd/copyright; do
    holds $path
done
[ -L "$root/usr/share/screamd/models/default" ] || fail "models/default is no link"
inside getent passwd screamd | grep -q ':/var/lib/screamd:/usr/sbin/nologin$' || fail "no user screamd"
inside getent group gpio >/dev/null || fail "no group gpio"
lacks usr/share/screamd/models/training
holds etc/systemd/system/multi-user.target.wants/screamd.service
step "installed, enabled, user and groups made"

inside screamd --version | grep -q '^screamd ' || fail "--version"
inside screamd check --config /etc/screamd/site.toml >"$work/log" 2>&1 || { cat "$work/log"; fail "screamd check"; }
"$target/release/host-tools" scene --out "$root/tmp/scene.wav" >/dev/null
printf '[events]\ndir = "/tmp/events"\n[state]\ndir = "/tmp/state"\n' >"$root/tmp/site.toml"
inside screamd run --config /tmp/site.toml --wav /tmp/scene.wav --speed max --json >"$work/out" 2>"$work/log" || { cat "$work/log"; fail "screamd run"; }
grep -q '"type":"alarm".*"state":"start"' "$work/out" || fail "the packaged model raised no alarm"
inside host-tools features /tmp/scene.wav --model /usr/share/screamd/models/default --out /tmp/x.npy || fail "host-tools features"
step "the installed programs hear the scene's scream with the installed model"

site=$root/etc/screamd/site.toml
sed -i 's/^zone = .*/zone = "Cellar"/' "$site"
mkdir -p "$root/var/lib/screamd/events" && echo kept >"$root/var/lib/screamd/events/one.json"
later same.deb 99.0-1
inside dpkg -i /tmp/same.deb </dev/null >"$work/log" 2>&1 || { cat "$work/log"; fail "upgrade"; }
grep -q '^zone = "Cellar"' "$site" || fail "the upgrade changed the site file"
later other.deb 99.1-1 '# a new default'
inside dpkg --force-confdef --force-confold -i /tmp/other.deb </dev/null >"$work/log" 2>&1 || { cat "$work/log"; fail "upgrade"; }
grep -q '^zone = "Cellar"' "$site" && ! grep -q 'a new default' "$site" || fail "a new default replaced the site file"
[ "$(inside dpkg-query -W -f '${Version}' screamd)" = 99.1-1 ] || fail "not upgraded"
holds var/lib/screamd/events/one.json
step "upgraded twice, once with another default: the edited site file and the state are kept"

inside dpkg -r screamd >"$work/log" 2>&1 || { cat "$work/log"; fail "remove"; }
lacks usr/bin/screamd
lacks usr/share/screamd
lacks usr/lib/systemd/system/screamd.service
holds etc/screamd/site.toml
holds var/lib/screamd/events/one.json
step "removed: programs, model and boards are gone; site file and state stay"

inside dpkg -P screamd >"$work/log" 2>&1 || { cat "$work/log"; fail "purge"; }
for path in etc/screamd var/lib/screamd etc/systemd/system/multi-user.target.wants/screamd.service; do lacks $path; done
inside dpkg-query -W screamd >/dev/null 2>&1 && fail "dpkg still knows the package"
leftovers=$(find "$root" -xdev -path "$root/proc" -prune -o -path "$root/tmp" -prune -o -path "$root/var/log" -prune -o -iname '*screamd*' -print)
[ -z "$leftovers" ] || fail "left behind: $leftovers"
step "purged: nothing is left but the user"

fresh
cp firmware/packaging/install.sh "$root/tmp/"
mv "$root/tmp/screamd.deb" "$root/tmp/$(basename "$package")"
printf 'zone = "Attic"\n[audio]\ndevice = "hw:CARD=Device"\n[mqtt]\nhost = "hub.local"\nusername = "attic"\npassword_file = "mqtt.password"\n' >"$root/tmp/site.toml"
printf 'zonne = "Attic"\n' >"$root/tmp/wrong.toml"
printf 'zone = "Deaf"\n' >"$root/tmp/deaf.toml"
echo canary-7431 >"$root/tmp/password"
inside /tmp/install.sh --site /tmp/site.toml --password /tmp/password >"$work/log" 2>&1 || { cat "$work/log"; fail "install.sh"; }
grep -q '^zone = "Attic"' "$site" || fail "install.sh did not put the site file there"
lacks etc/screamd/site.toml.before
grep -q '^hosts:.*mdns' "$root/etc/nsswitch.conf" || fail "names that end in .local are not resolved"
holds usr/sbin/avahi-daemon
grep -q canary "$work/log" && fail "install.sh shows the password"
[ "$(stat -c '%a %U' "$root/etc/credstore/screamd.mqtt.password")" = "600 root" ] || fail "the password can be read by others"
inside /tmp/install.sh --site /tmp/wrong.toml >"$work/log" 2>&1 && fail "install.sh took a site file with a mistake"
grep -q 'zone' "$work/log" && grep -q '^zone = "Attic"' "$site" || fail "the refused site file is in force, or not named"
inside /tmp/install.sh --site /tmp/deaf.toml >"$work/log" 2>&1 && fail "install.sh took a site file without a microphone"
grep -q 'audio.device' "$work/log" && grep -q '^zone = "Attic"' "$site" || fail "the site file without a microphone is in force, or that is not said"
inside /tmp/install.sh >"$work/log" 2>&1 || { cat "$work/log"; fail "install.sh again"; }
grep -q '^zone = "Attic"' "$site" || fail "install.sh alone changed the site file"
grep -q 'what runs is a bundle' "$work/log" && fail "install.sh saw a bundle where there is none"
# A bundle of the same version is current, and stays so.
version=$(inside dpkg-query -W -f '${Version}' screamd)
sed 's/"Attic"/"Loft"/' "$root/tmp/site.toml" >"$root/tmp/loft.toml"
"$target/release/host-tools" bundle keygen --out "$work/update.key" >/dev/null
"$target/release/host-tools" bundle --deb "$package" --key "$work/update.key" --out "$root/tmp/same.bundle" >/dev/null
cp "$work/update.pub" "$root/tmp/"
rm "$work/update.key" "$work/update.pub"
inside screamd update apply --key /tmp/update.pub /tmp/same.bundle >"$work/log" 2>&1 || { cat "$work/log"; fail "update apply"; }
inside /tmp/install.sh --site /tmp/loft.toml >"$work/log" 2>&1 || { cat "$work/log"; fail "install.sh beside a bundle"; }
grep -q "what runs is a bundle, $version-" "$work/log" || { cat "$work/log"; fail "install.sh does not say that a bundle runs"; }
grep -q '^zone = "Loft"' "$site" && grep -q '^zone = "Attic"' "$site.before" || fail "the site file before is not kept"
step "install.sh: site file and password in place, a wrong site file and one without a microphone refused, a second run changes nothing"

rm -rf "$root" "$work/later"
step "all passed"
