#!/usr/bin/env bash
# A real Home Assistant, a real mosquitto, the real program: every entity, every command, a scream, a dead microphone,
# a dead device, restarts of either side and of the broker. Prints a table of checks; exit 1 where one fails.
#   tests/home-assistant/run.sh [--result FILE] [--screenshot FILE.png]
# Needs root (a Debian 13 root is prepared once, 3 to 6 minutes, 1.7 GB, in $HA_ROOT, else /var/tmp/screamd-home-assistant).
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=${HA_ROOT:-/var/tmp/screamd-home-assistant}
cd "$here/../.."
. .cargo/prepare.sh
need_packages mosquitto mosquitto-clients python3
for program in screamd host-tools; do
    [ -x "${CARGO_TARGET_DIR:-target}/release/$program" ] || { need_rust; cargo build --release --workspace --bins; }
done
as_root "$here/setup.sh" "$root"
# Whoever removes the folder later must not remove this machine's /dev with it.
trap 'as_root umount "$root/dev" "$root/proc"' EXIT
as_root python3 "$here/run.py" --root "$root" --bin "${CARGO_TARGET_DIR:-target}/release" "$@"
