#!/usr/bin/env bash
# The image's test: boards/image/build.sh's image, given a site by host-tools provision, boots in QEMU (aarch64, no KVM), hears a scream
# through snd-aloop, raises the siren's line and alerts a broker on the host; then the power is cut with the siren on, and it boots again;
# then its kernel hangs, and the hardware's watchdog starts it again.
#   tests/vm/image.sh [--image FILE.img.xz] [--cuts N]
# --image FILE  [default: target/image/screamd.img.xz, made where it is missing]
# --cuts N      and then updates: one by the hub, one that never starts, and N with the power cut in them [default: none]
# Needs root once (packages) and Debian 12; works in vm-work/image. Emulated: its times say nothing of a board.
set -euo pipefail
cd "$(dirname "$0")/../.."
. .cargo/prepare.sh
. .cargo/arm64-apt.sh
target=$(realpath -m "${CARGO_TARGET_DIR:-target}")
image= cuts=0
while [ $# -gt 0 ]; do
    case $1 in
        -h | --help) sed -n '2,9s/^# \{0,1\}//p' "$0"; exit 0 ;;
        --cuts) cuts=${2:?--cuts needs a number}; shift 2 ;;
        --image) image=$(realpath "${2:?--image needs a file}"); shift 2 ;;
        *) echo "tests/vm/image.sh: unknown argument $1 (see --help)" >&2; exit 2 ;;
    esac
done
need_packages qemu-system-arm qemu-utils mtools xz-utils flac python3 mosquitto mosquitto-clients openssh-client debian-archive-keyring
if [ -z "$image" ]; then
    [ -f "$target/image/screamd.img.xz" ] || boards/image/build.sh
    image=$(realpath "$target/image/screamd.img.xz")
fi
cargo build --release --locked --quiet --workspace --bins

here=$PWD tools=$target/release/host-tools
work=$here/vm-work/image
mkdir -p "$work/boards"
cd "$work"
# What plays: aplay for arm64, since the image has no player.
if [ ! -f aplay ]; then
    rm -rf debs user && mkdir -p debs user
    arm64_begin apt bookworm
    (cd debs && arm64_apt_get download alsa-utils)
    dpkg-deb -x debs/alsa-utils*.deb user
    cp user/usr/bin/aplay . && rm -rf apt debs user
fi
"$tools" scene --out scene.wav >/dev/null
"$here/tests/vm/sounds.py" --tools "$tools" --model "$here/models/default" --data "$here/../shared/data" --scene scene.wav --out "$work"

free_port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }
port=$(free_port) ssh_port=$(free_port)
# As an installer has it: a site file, a password beside it, a key to log in with.
cp "$here/tests/vm/rig.toml" boards/
sed "s/@PORT@/$port/; s/^\[decision\]/username = \"rig\"\npassword_file = \"mqtt.password\"\n&/" "$here/tests/vm/site.toml" >site.toml
echo "not-a-real-secret-$port" >mqtt.password
rm -f key key.pub && ssh-keygen -q -t ed25519 -N '' -C test -f key
rm -f update.key update.pub && "$tools" bundle keygen --out update.key >/dev/null
if [ "$cuts" -gt 0 ]; then
    # Updates: the package of the image under later versions, and one whose program ends at once.
    mkdir -p "$target/debian"
    package=$(find "$target/debian" -name 'screamd_*_arm64.deb' -printf '%T@ %p\n' | sort -n | tail -1 | cut -d' ' -f2-)
    [ -n "$package" ] || { echo "tests/vm/image.sh: no arm64 package under $target (firmware/packaging/build-deb.sh arm64)" >&2; exit 2; }
    rm -rf tree
    dpkg-deb -R "$package" tree
    bundle() { # NAME VERSION
        sed -i "s/^Version: .*/Version: $2-1/" tree/DEBIAN/control
        dpkg-deb --root-owner-group -Zxz -z1 --build tree "$1.deb" >/dev/null
        "$tools" bundle --deb "$1.deb" --key update.key --out "$1.bundle" >/dev/null
    }
    bundle old 9.0.0
    bundle new 9.1.0
    printf '#!/bin/sh\nexit 1\n' >tree/usr/bin/screamd
    bundle broken 9.2.0
    rm -rf tree ./*.deb
fi
xz -dc "$image" >screamd.img
# A card is larger than the image: the data partition has to take the rest.
truncate -s +1G screamd.img
"$tools" provision --board rig --site site.toml --ssh-key key.pub --update-key update.pub --out screamd.img
mcopy -o -i screamd.img@@4M boards/rig.toml ::/screamd-board-rig.toml
mcopy -o -i screamd.img@@4M ::/vmlinuz ::/initrd.img ::/cmdline.txt .

mosquitto_passwd=$(PATH=$PATH:/usr/sbin command -v mosquitto_passwd)
rm -f passwords && "$mosquitto_passwd" -b -c passwords rig "$(cat mqtt.password)"
printf 'user root\nlistener %s 127.0.0.1\nallow_anonymous false\npassword_file %s/passwords\n' "$port" "$work" >mosquitto.conf
chmod 600 passwords
PATH=$PATH:/usr/sbin mosquitto -c mosquitto.conf 2>mosquitto.log &
broker=$!
trap 'kill $broker 2>/dev/null || true; [ ! -f machine.pid ] || kill "$(cat machine.pid)" 2>/dev/null || true; rm -f ./*.sock' EXIT
python3 "$here/tests/vm/image_steps.py" --work "$work" --port "$port" --ssh-port "$ssh_port" --cuts "$cuts"
