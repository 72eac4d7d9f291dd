#!/bin/sh
# Written by host-tools provision for Raspberry Pi OS 12. systemd runs it as root at the first boot, before anything else
# (systemd.run in cmdline.txt, as Raspberry Pi Imager does), and boots again. It sets what must be set this early, leaves the
# rest to a service of the next boot, and takes itself away.
set -u
boot=/boot/firmware
imager() { /usr/lib/raspberrypi-sys-mods/imager_custom "$@"; }
# A card that is provisioned again leaves the device its name, its network and who logs in.
if [ ! -e /var/lib/screamd-first-boot.done ]; then
@SET@
fi
sh "$boot/screamd-first-boot.sh" arm
sync
# Whole or not at all: without its line nothing boots, and with systemd.run in it and this script gone it would power off for ever.
sed 's| systemd\.run=[^ ]*||; s| systemd\.run_success_action=[^ ]*||; s| systemd\.unit=[^ ]*||' "$boot/cmdline.txt" > "$boot/cmdline.new" &&
    [ -s "$boot/cmdline.new" ] && sync && mv "$boot/cmdline.new" "$boot/cmdline.txt" && sync || exit 0
# It may hold the wireless network's key.
dd if=/dev/zero of="$boot/firstrun.sh" bs=1 count="$(wc -c < "$boot/firstrun.sh")" conv=notrunc,fsync 2>/dev/null
rm -f "$boot/firstrun.sh"
exit 0
