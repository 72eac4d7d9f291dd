#!/usr/bin/env bash
# Prepares the aarch64 cross build, once: compilers and qemu from Debian, an arm64 sysroot in ./.sysroot, Debian's Rust as the
# toolchain "debian-web". Needs Debian 12, root and apt; downloads nothing through rustup. Safe to run again (2 s).
#   .cargo/setup-aarch64.sh [bullseye|bookworm]
# bullseye, the default: binaries ask for glibc 2.30 at most and run on JetPack 5, 6 and Raspberry Pi OS 12, 13. bookworm: 2.34.
#
# Why Debian's compiler: std for aarch64 must be of exactly the compiler's version, and both come from Debian's archive together.
# Who has rustup and its servers may `rustup target add aarch64-unknown-linux-gnu` and build with RUSTUP_TOOLCHAIN= set empty.
set -euo pipefail
suite=${1:-bullseye}
cd "$(dirname "$0")/.."
. .cargo/prepare.sh
. .cargo/arm64-apt.sh
if [ "$(uname -m)" = aarch64 ]; then
    need_packages build-essential pkg-config libasound2-dev
    need_rust
    echo "ready: this machine is aarch64 itself; build with .cargo/build-aarch64.sh"
    exit 0
fi
[ "$(id -u)" = 0 ] || { echo "setup-aarch64.sh: run me as root (sudo .cargo/setup-aarch64.sh)" >&2; exit 1; }
apt-cache show rustc-web >/dev/null 2>&1 || apt-get -q update
if ! apt-cache show rustc-web >/dev/null 2>&1; then
    echo "setup-aarch64.sh: this system's archive has no rustc-web (Debian 12 has); elsewhere use \`cross\` (Cross.toml), or a Debian 12 machine" >&2
    exit 1
fi
need_packages gcc-aarch64-linux-gnu rustc-web cargo-web rust-web-clippy rustfmt-web qemu-user pkg-config \
    libasound2-dev binutils debian-archive-keyring

root=$PWD/.sysroot
std=$(dpkg-query -W -f '${Version}' rustc-web)
if [ "$(cat "$root/.done" 2>/dev/null)" != "$suite $std" ]; then
    debs=$root.apt/debs
    rm -rf "$root"
    arm64_begin "$root.apt" "$suite"
    mkdir -p "$root" "$debs"
    (cd "$debs" && arm64_apt_get -t "$suite" download libc6 libc6-dev linux-libc-dev libcrypt1 libcrypt-dev libgcc-s1 libasound2 \
        libasound2-dev libasound2-data "libstd-rust-web-dev=$std")
    for deb in "$debs"/*.deb; do dpkg-deb -x "$deb" "$root"; done
    # Absolute links would leave the sysroot, and the linker would take the host's static pthread.
    find "$root" -type l -lname '/*' | while read -r link; do ln -sfnr "$root$(readlink "$link")" "$link"; done
    rm -rf "$root.apt"
    echo "$suite $std" >"$root/.done"
fi
ln -sfn "$root/usr/lib/rustlib/aarch64-unknown-linux-gnu" /usr/lib/rustlib/aarch64-unknown-linux-gnu
if command -v rustup >/dev/null; then rustup toolchain link debian-web /usr; fi
echo "ready: $suite sysroot, rustc-web $std; build with .cargo/build-aarch64.sh"
