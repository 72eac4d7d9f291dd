#!/usr/bin/env bash
# Called by mmdebstrap when Debian's packages are in: FOLDER is the image's root. Everything that makes Debian a screamd device.
set -euo pipefail
root=$1
here=$(dirname "$(realpath "$0")")
inside() { env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive chroot "$root" "$@"; }

cp "$SCREAMD_DEB" "$root/screamd.deb"
inside dpkg -i /screamd.deb >/dev/null 2>&1
rm "$root/screamd.deb"

cp -r --no-preserve=ownership "$here/root/." "$root/"
install -m 755 "$here/../../host-tools/src/provision/first-boot.sh" "$root/usr/lib/screamd/first-boot.sh"
mkdir -p "$root"/{data,boot/firmware,etc/screamd,etc/credstore,etc/systemd/system/screamd.service.d,var/lib/screamd,var/lib/screamd-releases}
ln -sf /run/systemd/resolve/stub-resolv.conf "$root/etc/resolv.conf"
ln -sf /data/etc/wpa_supplicant-wlan0.conf "$root/etc/wpa_supplicant/wpa_supplicant-wlan0.conf"
ln -sf /data/etc/localtime "$root/etc/localtime"
echo screamd >"$root/etc/hostname"
printf '127.0.0.1 localhost\n::1 localhost\n127.0.1.1 screamd\n' >"$root/etc/hosts"
# Empty: made for each boot in memory. One in the image would be the same in every house.
: >"$root/etc/machine-id"
rm -f "$root"/etc/ssh/ssh_host_* "$root/var/lib/dbus/machine-id"
inside passwd --lock root >/dev/null
if [ -n "${SCREAMD_MOSQUITTO:-}" ]; then
    printf '# For this device and what runs on it.\nlistener 1883 127.0.0.1\nallow_anonymous true\n' >"$root/etc/mosquitto/conf.d/screamd.conf"
    echo '/data/mosquitto /var/lib/mosquitto none bind,x-systemd.requires=screamd-data.service,x-systemd.after=screamd-data.service 0 0' >>"$root/etc/fstab"
    printf 'mkdir -p mosquitto\nchown mosquitto:mosquitto mosquitto\n' >>"$root/usr/lib/screamd/make-data"
fi
inside systemctl --quiet enable systemd-networkd systemd-resolved systemd-timesyncd screamd-card screamd-first-boot screamd ssh
inside systemctl --quiet disable wpa_supplicant apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer 2>/dev/null || true
inside systemctl --quiet mask systemd-networkd-wait-online.service

# Each module that the hook wants is in the kernel or in the initial ram disk: else a board that this machine cannot try finds no root.
inside sh -c 'lsinitramfs /boot/initrd.img-*; cat /lib/modules/*/modules.builtin' | sed -n 's|.*/\([^/]*\)\.ko\(\.[a-z]*\)\?$|\1|p' | tr - _ | sort -u >"$root/tmp/modules"
for module in $(sed -n 's/^manual_add_modules //p' "$here/root/etc/initramfs-tools/hooks/screamd"); do
    grep -qx "$(printf %s "$module" | tr - _)" "$root/tmp/modules" || { echo "boards/image/customize.sh: module $module is not in the initial ram disk" >&2; exit 1; }
done

# The Raspberry Pi's own firmware, unpacked and not installed: its hooks expect a machine that runs.
(cd "$root/tmp" && APT_CONFIG=$MMDEBSTRAP_APT_CONFIG apt-get download -qq raspi-firmware && dpkg-deb --fsys-tarfile raspi-firmware_*.deb | tar -x -C "$root" ./usr/lib/raspi-firmware)

# Packages are not changed on a device: releases come as signed bundles, the system as a new image.
: >"$root/etc/apt/sources.list"
rm -rf "$root"/etc/apt/sources.list.d/*

# What differs from build to build, or is never read on a device.
rm -rf "$root"/var/{cache,log,tmp,backups}/* "$root"/var/lib/apt/lists/* "$root"/tmp/* "$root"/usr/share/{doc,man,info,locale,lintian,bug}/*
rm -f "$root"/var/lib/dpkg/*-old "$root"/etc/*- "$root/var/lib/systemd/catalog/database" "$root/etc/.pwd.lock"
