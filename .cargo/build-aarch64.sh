#!/usr/bin/env bash
# `screamd` and `host-tools` for aarch64, and the newest glibc each asks for. One binary for all boards: plain armv8-a, since code
# built for a Pi 5's core ends in SIGILL on a Pi 4; tract and the FFT choose their kernels at run time.
#   .cargo/build-aarch64.sh [cargo's options]
set -euo pipefail
cd "$(dirname "$0")/.."
target=aarch64-unknown-linux-gnu
# rust-toolchain.toml's compiler has no std for aarch64 unless rustup fetched it; setup-aarch64.sh linked one that has.
if [ "$(uname -m)" != aarch64 ]; then
    [ -e .sysroot/.done ] || { echo "build-aarch64.sh: run .cargo/setup-aarch64.sh once, as root" >&2; exit 1; }
    # A clone that is gone, or moved, leaves the compiler's link to it behind.
    [ -e /usr/lib/rustlib/$target/lib ] || { echo "build-aarch64.sh: the compiler's std for $target is gone: run .cargo/setup-aarch64.sh again, as root" >&2; exit 1; }
    # Root's rustup, or none, has the name from setup-aarch64.sh; one's own has not.
    if command -v rustup >/dev/null; then
        rustup toolchain list | grep -q '^debian-web' || rustup toolchain link debian-web /usr
        export RUSTUP_TOOLCHAIN=${RUSTUP_TOOLCHAIN-debian-web}
    fi
fi
cargo build --release --locked --target $target --workspace --bins "$@"
for name in screamd host-tools; do
    binary=${CARGO_TARGET_DIR:-target}/$target/release/$name
    glibc=$(readelf -W --dyn-syms "$binary" | grep -oE 'GLIBC_[0-9.]+' | sort -Vu | tail -1)
    echo "$binary: $(stat -c %s "$binary") bytes, needs $glibc"
done
