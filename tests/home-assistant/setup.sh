#!/usr/bin/env bash
# setup.sh DIR: a Debian 13 root with Python 3.13 and Home Assistant core in DIR. Once; 3 to 6 minutes, 1.7 GB, root.
# Debian 12's Python 3.11 stops at Home Assistant 2024.3, which knows no device discovery.
set -euo pipefail
dir=${1:?usage: setup.sh DIR}
command -v debootstrap >/dev/null || apt-get install -y -q debootstrap
if [ ! -e "$dir/.ready" ]; then
    # The archive that this machine already uses.
    mirror=$(apt-get indextargets --format '$(SITE)' 'Created-By: Packages' | head -1)
    [ -x "$dir/usr/bin/python3" ] || debootstrap --variant=minbase --include=python3,python3-venv,ca-certificates trixie "$dir" "$mirror"
    cp /etc/resolv.conf "$dir/etc/"
    cp /etc/ssl/certs/ca-certificates.crt "$dir/etc/ssl/certs/"
    [ ! -e /etc/pip.conf ] || cp /etc/pip.conf "$dir/etc/"
    chroot "$dir" apt-get install -y -q --no-install-recommends g++ python3-dev libffi-dev libssl-dev zlib1g-dev libturbojpeg0 >/dev/null
    mountpoint -q "$dir/proc" || mount -t proc proc "$dir/proc"
    mountpoint -q "$dir/dev" || mount --bind /dev "$dir/dev"
    chroot "$dir" python3 -m venv /ha
    # From hassil on: what its pages load.
    chroot "$dir" env -u PIP_FIND_LINKS /ha/bin/pip install -q --prefer-binary \
        homeassistant==2026.2.3 home-assistant-frontend==20260128.6 paho-mqtt==2.1.0 numpy \
        hassil==3.5.0 home-assistant-intents==2026.1.28 pymicro-vad==1.0.1 pyspeex-noise==1.0.2 \
        PyTurboJPEG==1.8.0 mutagen==1.47.0 Pillow==12.0.0 ha-ffmpeg==3.2.2
    touch "$dir/.ready"
fi
mountpoint -q "$dir/proc" || mount -t proc proc "$dir/proc"
mountpoint -q "$dir/dev" || mount --bind /dev "$dir/dev"
