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
cc -shared -fPIC -O2 -o "$work/plugin.so" tests/instructions.c

# Cortex-A72: Raspberry Pi 4. Cortex-A76: Raspberry Pi 5, near the Jetson Orin's A78AE.
for cpu in ${CPUS:-cortex-a72 cortex-a76}; do
    for windows in 1 3; do
        env -i qemu-aarch64 -cpu "$cpu" -L "$sysroot" -plugin "$work/plugin.so" \
            "$program" bench --model "$model" --windows "$windows" --budget-ms 1e9 "$@" >"$work/out" 2>"$work/err" ||
            { cat "$work/out" "$work/err" >&2; exit 1; }
        sed -n 's/^instructions: //p' "$work/err" >"$work/$windows"
    done
    awk -v cpu="$cpu" 'NR == 1 { one = $1 } NR == 2 { printf "%s: %.1f million instructions a window\n", cpu, ($1 - one) / 2e6 }' \
        "$work/1" "$work/3"
done
