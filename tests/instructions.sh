#!/bin/sh
# What a window costs on aarch64, where no board is at hand: executed instructions, counted under qemu-user, the same at every
# run whatever else the machine does. Instructions are not time: compare engines and releases by it, not boards.
#
#   tests/instructions.sh [options of `host-tools bench`, such as --engine tract]
#
# After .cargo/setup-aarch64.sh and .cargo/build-aarch64.sh. A window is front end, network and the making of its sound: the
# difference between a run of three windows and a run of one. CPUS names other cores, MODEL another model folder.
set -eu
cd "$(dirname "$0")/.."
program=${HOST_TOOLS:-target/aarch64-unknown-linux-gnu/release/host-tools}
sysroot=${SYSROOT:-.sysroot}
model=${MODEL:-models/default}
[ -x "$program" ] || { echo "$program: not there; .cargo/build-aarch64.sh makes it" >&2; exit 1; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
. tests/instructions-count.sh
counter "$work"
bench() { # WINDOWS PLUGIN CPU [OPTIONS]
    windows=$1 plugin=$2 cpu=$3
    shift 3
    env -i qemu-aarch64 -cpu "$cpu" -L "$sysroot" -plugin "$plugin" "$program" bench --model "$model" --windows "$windows" --budget-ms 1e9 "$@"
}

# Cortex-A72: Raspberry Pi 4. Cortex-A76: Raspberry Pi 5, near the Jetson Orin's A78AE.
for cpu in ${CPUS:-cortex-a72 cortex-a76}; do
    count_windows "$work" "$cpu" "$cpu" bench "$@"
done
