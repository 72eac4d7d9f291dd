#!/usr/bin/env bash
# The device test: an aarch64 machine (QEMU, no KVM) with Debian's kernel, a real ALSA card (snd-aloop) and a real gpiochip (PL061) runs
# the very aarch64 screamd with the default model, hears a scream, and is put through faults (tests/vm/steps.py says which).
#   tests/vm/run.sh [--recording FILE] [--json FILE]
# --recording FILE  what is screamed, WAV or FLAC of 16 kHz and one channel. Else the first test recording of ../shared/data that the
#                   model hears on this machine; where there is none, the scream of `host-tools scene`
# Needs root once (packages) and Debian 12; the first run downloads 64 MB into /vm-work. Speed is measured on boards,
# not here: the network takes half a second a window in emulation.
set -euo pipefail
cd "$(dirname "$0")/../.."
. .cargo/prepare.sh
. .cargo/arm64-apt.sh
recording= figures=()
while [ $# -gt 0 ]; do
    case $1 in
        -h | --help) sed -n '2,9s/^# \{0,1\}//p' "$0"; exit 0 ;;
        --recording) recording=$(realpath "${2:?--recording needs a file}"); shift 2 ;;
        --json) figures=(--json "$(realpath -m "${2:?--json needs a file}")"); shift 2 ;;
        *) echo "tests/vm/run.sh: unknown argument $1 (see --help)" >&2; exit 2 ;;
    esac
done
need_packages qemu-system-arm cpio kmod flac python3 mosquitto mosquitto-clients debian-archive-keyring
target=$(realpath -m "${CARGO_TARGET_DIR:-target}")
.cargo/build-aarch64.sh
cargo build --release --locked --quiet --workspace --bins

here=$PWD
work=$here/vm-work
mkdir -p "$work"
cd "$work"
if [ ! -f .kernel ]; then
    echo "downloading Debian's arm64 kernel and a few programs (64 MB, once) ..." >&2
    rm -rf kernel user debs
    mkdir -p kernel user debs
    arm64_begin apt bookworm
    version=$(arm64_apt_cache depends linux-image-arm64 | awk '/Depends: linux-image-/{sub("linux-image-","",$2); print $2; exit}')
    (cd debs && arm64_apt_get download "linux-image-$version" busybox-static libasound2 libasound2-data libc6 libgcc-s1 alsa-utils \
        gpiod libgpiod2)
    for deb in debs/*.deb; do
        case $deb in *linux-image*) dpkg-deb -x "$deb" kernel ;; *) dpkg-deb -x "$deb" user ;; esac
    done
    depmod -b kernel "$version"
    rm -rf apt debs
    echo "$version" >.kernel
fi
version=$(cat .kernel)

# What is played: three minutes each of a scream again and again, and of the scene's quiet room.
"$target/release/host-tools" scene --out scene.wav >/dev/null
"$here/tests/vm/sounds.py" --tools "$target/release/host-tools" --model "$here/models/default" --data "$here/../shared/data" \
    ${recording:+--recording "$recording"} --scene scene.wav --out "$work"

# The machine's root, all of it in memory.
lib=lib/aarch64-linux-gnu
rm -rf root
mkdir -p root/{bin,mod,proc,sys,dev,tmp,etc/screamd,boards,models,usr/bin,usr/share/alsa,$lib}
cp user/bin/busybox root/bin/
number=100
for module in snd-aloop virtio_pci virtio_mmio virtio_net; do
    modprobe -d "$PWD/kernel" -S "$version" --show-depends $module 2>/dev/null | awk '/^insmod/{print $2}'
done | awk '!seen[$0]++' | while read -r file; do
    number=$((number + 1))
    cp "$file" "root/mod/$number-$(basename "$file")"
done
cp -aL user/$lib/{libc.so.6,libm.so.6,ld-linux-aarch64.so.1,libdl.so.2,libpthread.so.0,librt.so.1,libgcc_s.so.1} \
    user/usr/$lib/{libasound.so.2,libgpiod.so.2} root/$lib/
ln -sf aarch64-linux-gnu/ld-linux-aarch64.so.1 root/lib/ld-linux-aarch64.so.1
cp user/usr/bin/aplay user/usr/bin/amixer user/usr/bin/gpioset user/usr/bin/gpiodetect root/usr/bin/
cp -r user/usr/share/alsa/. root/usr/share/alsa/
cp "$target/aarch64-unknown-linux-gnu/release/screamd" root/usr/bin/
cp -r "$here/models/$(readlink "$here/models/default")" root/models/default
cp "$here/tests/vm/rig.toml" root/boards/
cp "$here/tests/vm/init" root/init
cp scream.wav quiet.wav round.wav root/
for key in MemoryMax OOMScoreAdjust; do
    sed -n "s/^$key=//p" "$here/firmware/packaging/screamd.service" >root/etc/$key
done

# A broker of our own on a free port, and the device told of it.
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
sed "s/@PORT@/$port/" "$here/tests/vm/site.toml" >root/etc/screamd/site.toml
(cd root && find . | cpio -o -H newc --quiet >../root.cpio)
printf 'user root\nlistener %s 127.0.0.1\nallow_anonymous true\n' "$port" >mosquitto.conf
PATH=$PATH:/usr/sbin mosquitto -c mosquitto.conf 2>mosquitto.log &
broker=$!
rm -f console.sock monitor.sock qtest.sock
machine=
trap 'kill $broker $machine 2>/dev/null || true; rm -f console.sock monitor.sock qtest.sock' EXIT

# The console waits for its reader, so that nothing of the boot is lost.
qemu-system-aarch64 -M virt -cpu cortex-a72 -smp 2 -m 768 -display none \
    -serial unix:console.sock,server=on,wait=on -monitor unix:monitor.sock,server=on,wait=off \
    -accel tcg -qtest unix:qtest.sock,server=on,wait=off -qtest-log none \
    -kernel "kernel/boot/vmlinuz-$version" -initrd root.cpio -append "console=ttyAMA0 quiet loglevel=3 panic=-1" -no-reboot \
    -netdev user,id=net -device virtio-net-pci,netdev=net,romfile= </dev/null &
machine=$!
python3 "$here/tests/vm/steps.py" --work "$work" --port "$port" ${figures[@]+"${figures[@]}"}
