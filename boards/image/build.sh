#!/usr/bin/env bash
# A card image of our own: Debian 12 for arm64 with screamd in it, in target/image/screamd.img.xz (and .sha256).
#   boards/image/build.sh [--deb FILE] [--with-mosquitto] [--keep-root]
# --deb FILE         the arm64 package [default: the newest that was built, else firmware/packaging/build-deb.sh makes it]
# --with-mosquitto   with an MQTT broker for the device itself
# --keep-root        the system as the run before left it; only the partitions are made anew
# Partitions: FAT for the firmware, the kernel and what host-tools provision puts there; the root, a squashfs that nothing can write;
# data, ext4, which grows to the card's end at the first boot. The same tree and the same packages give the same bytes: times are the
# last commit's. Debian's packages alone; about 6 CPU-minutes. Served: see boards/image/README.md.
set -euo pipefail
cd "$(dirname "$0")/../.."
. .cargo/prepare.sh
. .cargo/arm64-apt.sh
package= mosquitto= keep_root=
while [ $# -gt 0 ]; do
    case $1 in
        -h | --help) sed -n '2,10s/^# \{0,1\}//p' "$0"; exit 0 ;;
        --deb) package=${2:?--deb needs a file}; shift 2 ;;
        --with-mosquitto) mosquitto=yes; shift ;;
        --keep-root) keep_root=yes; shift ;;
        *) echo "boards/image/build.sh: unknown argument $1 (see --help)" >&2; exit 2 ;;
    esac
done
need_packages mmdebstrap arch-test qemu-user-static binfmt-support squashfs-tools dosfstools mtools e2fsprogs fdisk xz-utils debian-archive-keyring
target=${CARGO_TARGET_DIR:-target}
if [ -z "$package" ]; then
    packages() { find "$target/aarch64-unknown-linux-gnu/debian" "$target/debian" -name 'screamd_*_arm64.deb' -printf '%T@ %p\n' 2>/dev/null | sort -n | tail -1 | cut -d' ' -f2-; }
    package=$(packages)
    if [ -z "$package" ]; then
        firmware/packaging/build-deb.sh --fast arm64
        package=$(packages)
    fi
fi
package=$(realpath "$package")
[ "$(dpkg-deb -f "$package" Package)/$(dpkg-deb -f "$package" Architecture)" = screamd/arm64 ] ||
    { echo "boards/image/build.sh: $package is no package of screamd for arm64" >&2; exit 2; }
# Programs of arm64 run here through QEMU; the kernel has to be told.
if ! arch-test arm64 >/dev/null 2>&1; then
    as_root mount -t binfmt_misc binfmt_misc /proc/sys/fs/binfmt_misc 2>/dev/null || true
    as_root update-binfmts --enable qemu-aarch64
    arch-test arm64 >/dev/null || { echo "boards/image/build.sh: this kernel cannot run arm64 programs (binfmt_misc)" >&2; exit 1; }
fi

epoch=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || stat -c %Y Cargo.toml)}
export SOURCE_DATE_EPOCH=$epoch E2FSPROGS_FAKE_TIME=$epoch TZ=UTC LC_ALL=C.UTF-8
work=$(realpath -m "$target/image")
mkdir -p "$work"
began=$SECONDS
step() { printf '%4d s  %s\n' $((SECONDS - began)) "$*"; }

key=/usr/share/keyrings/debian-archive-keyring.gpg
sources() { # addresses are those of this machine's own apt
    local main security
    main=$(debian_mirror bookworm)
    security=$(debian_mirror bookworm-security)
    [ -n "$main" ] || { echo "boards/image/build.sh: apt knows no Debian 12 (bookworm) here" >&2; return 1; }
    echo "deb [signed-by=$key] $main bookworm main non-free-firmware"
    [ -z "$security" ] || echo "deb [signed-by=$key] $security bookworm-security main non-free-firmware"
}
packages=systemd-sysv,systemd-resolved,systemd-timesyncd,udev,dbus,kmod,linux-image-arm64,initramfs-tools,zstd,e2fsprogs,dosfstools,fdisk,openssh-server,wpasupplicant,wireless-regdb,firmware-brcm80211,ca-certificates,tzdata,libasound2,libgpiod2,libnss-myhostname
[ -z "$mosquitto" ] || packages+=,mosquitto
# Of the kernel's modules: none for hardware that no board of these has.
unwanted=(drivers/gpu drivers/infiniband drivers/media drivers/scsi drivers/ata drivers/iio drivers/isdn drivers/staging drivers/video drivers/nvme
    drivers/mtd drivers/target drivers/md drivers/edac drivers/hwtracing drivers/crypto drivers/accel drivers/comedi drivers/net/wan drivers/net/can
    drivers/net/fddi drivers/bluetooth drivers/nfc drivers/input/joystick drivers/input/touchscreen drivers/input/tablet fs/btrfs fs/xfs fs/ocfs2 fs/gfs2
    fs/ceph fs/nfs fs/nfsd fs/smb fs/cifs fs/jfs fs/f2fs fs/reiserfs fs/ubifs fs/udf fs/dlm net/bluetooth net/sctp net/tipc net/openvswitch net/batman-adv
    net/ceph net/rds net/wireguard sound/pci)
excludes=()
for folder in "${unwanted[@]}"; do excludes+=(--dpkgopt="path-exclude=/lib/modules/*/kernel/$folder/*"); done
for vendor in amazon amd aquantia atheros aurora cavium chelsio cisco emulex freescale google hisilicon huawei intel marvell mellanox \
    netronome pensando qlogic qualcomm sfc smsc ti wangxun; do
    excludes+=(--dpkgopt="path-exclude=/lib/modules/*/kernel/drivers/net/ethernet/$vendor/*")
done
for vendor in ath atmel intel intersil marvell mediatek microchip quantenna ralink realtek rsi st ti zydas; do
    excludes+=(--dpkgopt="path-exclude=/lib/modules/*/kernel/drivers/net/wireless/$vendor/*")
done
# SCSI disks are how USB disks look.
excludes+=(--dpkgopt='path-include=/lib/modules/*/kernel/drivers/scsi/s*_mod.ko' --dpkgopt='path-include=/lib/modules/*/kernel/drivers/scsi/scsi_common.ko')
for folder in doc man info locale lintian bug; do excludes+=(--dpkgopt="path-exclude=/usr/share/$folder/*"); done

if [ -n "$keep_root" ] && [ -f "$work/root.tar" ]; then
    step "the root of the run before"
else
rm -f "$work/root.tar"
SCREAMD_DEB=$package SCREAMD_MOSQUITTO=$mosquitto mmdebstrap --quiet --architectures=arm64 --variant=minbase --include="$packages" \
    "${excludes[@]}" --dpkgopt=force-confold \
    --aptopt='APT::Install-Recommends "false"' --essential-hook="cp -r $(realpath boards/image/root/etc/initramfs-tools)"' "$1/etc/"' \
    --customize-hook="$(realpath boards/image/customize.sh)"' "$1"' \
    bookworm "$work/root.tar" - < <(sources)
fi
step "Debian and screamd: $(($(stat -c %s "$work/root.tar") >> 20)) MiB unpacked"

# The boot partition's files come out of the root: firmware, kernel, initial ram disk, device trees.
rm -rf "$work/boot" "$work/card"
mkdir -p "$work/boot" "$work/card"
tar -C "$work/boot" -xf "$work/root.tar" --wildcards './boot/*' './usr/lib/raspi-firmware/*' './usr/lib/linux-image-*/broadcom/*' --warning=none 2>/dev/null || true
version=$(basename "$work"/boot/boot/vmlinuz-* | sed s/vmlinuz-//)
cp "$work/boot/boot/vmlinuz-$version" "$work/card/vmlinuz"
cp "$work/boot/boot/initrd.img-$version" "$work/card/initrd.img"
cp "$work"/boot/usr/lib/raspi-firmware/* "$work/card/"
for tree in bcm2711-rpi-4-b bcm2711-rpi-400 bcm2711-rpi-cm4-io bcm2837-rpi-3-a-plus bcm2837-rpi-3-b bcm2837-rpi-3-b-plus bcm2837-rpi-zero-2-w; do
    cp "$work/boot/usr/lib/linux-image-$version/broadcom/$tree.dtb" "$work/card/"
done
# MBR disk ids name the root; nothing else on the card does.
id=53637264
printf 'console=tty1 console=ttyS1,115200 root=PARTUUID=%s-02 rootfstype=squashfs ro rootwait fsck.repair=yes panic=10 quiet\n' $id >"$work/card/cmdline.txt"
cp boards/image/config.txt "$work/card/"
printf 'screamd %s on Debian 12, Linux %s, built from %s\nhost-tools provision puts a site onto this card.\n' \
    "$(dpkg-deb -f "$package" Version)" "$version" "$(git rev-parse --short HEAD 2>/dev/null || echo unknown)" >"$work/card/screamd-image.txt"

# 1: FAT, 2: squashfs, 3: ext4; each begins at a whole 4 MiB, as cards erase.
boot_mib=128 data_mib=64
rm -f "$work"/{boot.fat,root.squashfs,data.ext4,screamd.img}
# Owners and file capabilities are the tar's.
mmtarfilter --path-exclude='/boot/*' --path-include='/boot/firmware' --path-exclude='/usr/lib/raspi-firmware/*' --path-exclude='/usr/lib/linux-image-*' \
    <"$work/root.tar" >"$work/system.tar"
# Its times are SOURCE_DATE_EPOCH's, or older.
sqfstar -quiet -no-progress -comp xz -b 1M -reproducible -root-mode 755 -root-uid 0 -root-gid 0 "$work/root.squashfs" <"$work/system.tar"
rm "$work/system.tar"
truncate -s ${boot_mib}M "$work/boot.fat"
mkfs.vfat --invariant -F 32 -n SCREAMD -i $id "$work/boot.fat" >/dev/null
find "$work/card" -exec touch -d "@$epoch" {} +
(cd "$work/card" && mcopy -m -i "$work/boot.fat" * ::/)
truncate -s ${data_mib}M "$work/data.ext4"
# Blocks, inodes and journal of the card that it grows to: those of 64 MiB would take 6 % of a card for inodes alone.
mke2fs -q -t ext4 -b 4096 -i 65536 -J size=16 -L screamd-data -m 1 -U 73637265-616d-6420-6461-746164617461 -E hash_seed=73637265-616d-6420-6461-746164617461,lazy_itable_init=0,resize=67108864 \
    "$work/data.ext4"
step "file systems: root $(($(stat -c %s "$work/root.squashfs") >> 20)) MiB, boot $(($(du -sk "$work/card" | cut -f1) >> 10)) MiB"

mib=1048576 erase=4
root_mib=$((($(stat -c %s "$work/root.squashfs") + erase * mib - 1) / (erase * mib) * erase))
truncate -s $(((erase + boot_mib + root_mib + data_mib) * mib)) "$work/screamd.img"
sfdisk -q "$work/screamd.img" <<TABLE
label: dos
label-id: 0x$id
start=$((erase * 2048)), size=$((boot_mib * 2048)), type=c, bootable
start=$(((erase + boot_mib) * 2048)), size=$((root_mib * 2048)), type=83
start=$(((erase + boot_mib + root_mib) * 2048)), size=$((data_mib * 2048)), type=83
TABLE
put() { dd if="$1" of="$work/screamd.img" bs=4M seek=$(($2 / erase)) conv=notrunc,sparse status=none; }
put "$work/boot.fat" $erase
put "$work/root.squashfs" $((erase + boot_mib))
put "$work/data.ext4" $((erase + boot_mib + root_mib))
xz --keep --force --threads=0 --block-size=16MiB -6 "$work/screamd.img"
(cd "$work" && sha256sum screamd.img.xz >screamd.img.xz.sha256)
step "target/image/screamd.img.xz: $(($(stat -c %s "$work/screamd.img.xz") >> 20)) MiB ($(($(stat -c %s "$work/screamd.img") >> 20)) on the card), sha256 $(cut -c1-16 "$work/screamd.img.xz.sha256")"
