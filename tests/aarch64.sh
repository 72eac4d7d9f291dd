#!/usr/bin/env bash
# The aarch64 programs, tested as such on a PC: their glibc, the detector's tests with its golden pictures, and pictures and scores of
# the default model beside this machine's own. Needs .cargo/setup-aarch64.sh once; builds what is not built (cold: 22 CPU-minutes).
#   tests/aarch64.sh [--build]     --build: all that it needs, and nothing run
# Under qemu-user with a Cortex-A72; on an aarch64 machine the same without emulation.
set -euo pipefail
cd "$(dirname "$0")/.."
. .cargo/prepare.sh
need_rust
target=aarch64-unknown-linux-gnu
if [ "$(uname -m)" != aarch64 ] && [ ! -e .sysroot/.done ]; then
    echo "tests/aarch64.sh: no aarch64 sysroot; run .cargo/setup-aarch64.sh once, as root" >&2
    exit 1
fi
# In CI nothing is optimised but what hears: how fast a model loads or a file is read here is not what is looked at, and optimising that
# is most of the build.
quick=()
if [ "${CI:-}" = true ]; then
    quick=(--config profile.release.opt-level=0)
    for crate in core hir nnef onnx onnx-opl transformers; do quick+=(--config "profile.release.package.tract-$crate.opt-level=0"); done
    for crate in detector kernels tract-linalg tract-data ndarray rustfft realfft rubato rayon rayon-core sha2 miniz_oxide fdeflate; do
        quick+=(--config "profile.release.package.$crate.opt-level=3")
    done
fi
.cargo/build-aarch64.sh "${quick[@]}"

foreign() { # cargo with the toolchain that has std for aarch64
    if [ "$(uname -m)" != aarch64 ] && command -v rustup >/dev/null; then
        RUSTUP_TOOLCHAIN=${RUSTUP_TOOLCHAIN-debian-web} cargo "$@"
    else
        cargo "$@"
    fi
}
if [ "${1:-}" = --build ]; then
    foreign test --release --locked --target $target "${quick[@]}" --workspace --lib --test golden --test alarm_cases --no-run
    foreign test --release --locked --target $target "${quick[@]}" -p kernels --test equal --no-run
    exit
fi
# The whole workspace with a filter: `-p detector` alone would build tract once more, with other features.
foreign test --release --locked --target $target "${quick[@]}" --workspace --lib --test golden --test alarm_cases
# Every family of kernels that a core has, beside plain Rust: a Pi 4's, and a Pi 5's with its dot products. The crate depends on
# rayon alone, so that -p builds hardly anything twice.
for cpu in cortex-a72 cortex-a76; do
    QEMU_CPU=$cpu foreign test --release --locked --target $target "${quick[@]}" -p kernels --test equal
done
cargo test --release --locked --workspace --test aarch64 -- --ignored --nocapture
