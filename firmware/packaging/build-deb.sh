#!/usr/bin/env bash
# Debian packages of screamd and host-tools with the default model and all boards, in target/debian (or $CARGO_TARGET_DIR/debian).
#   firmware/packaging/build-deb.sh [--fast] [arm64] [amd64]     both where none is named; --fast: 7 % larger, a third of the time
# arm64 needs .cargo/setup-aarch64.sh once. The same tree gives the same bytes: times are the last commit's.
set -euo pipefail
cd "$(dirname "$0")/../.."
. .cargo/prepare.sh
need_packages build-essential pkg-config libasound2-dev binutils
need_rust
target=${CARGO_TARGET_DIR:-target}
version=3.8.0

packager=$(command -v cargo-deb || echo "$target/tools/bin/cargo-deb")
if [ "$("$packager" --version 2>/dev/null | grep -oE '[0-9.]+$')" != $version ]; then
    echo "building cargo-deb $version (two minutes, once) ..." >&2
    CARGO_TARGET_DIR=$target/tools/build cargo install cargo-deb --version $version --locked --no-default-features --quiet --root "$target/tools"
    packager=$target/tools/bin/cargo-deb
fi

# firmware/Cargo.toml names the model's folder.
model=$(readlink models/default)
grep -q "\"../models/$model/\*\"" firmware/Cargo.toml && grep -q "link_name = \"$model\"" firmware/Cargo.toml || {
    echo "build-deb.sh: models/default points at $model, but [package.metadata.deb] in firmware/Cargo.toml packs another model" >&2
    exit 1
}

epoch=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || stat -c %Y Cargo.toml)}
# What the package says it needs must be what its programs ask for.
check_glibc() { # DEB FOLDER-OF-PROGRAMS
    local says needs
    says=$(dpkg-deb -f "$1" Depends | grep -oE 'libc6 \(>= [0-9.]+\)' | grep -oE '[0-9.]+\)' | tr -d ')')
    for name in screamd host-tools; do
        needs=$(readelf -W --dyn-syms "$2/$name" | grep -oE 'GLIBC_[0-9.]+' | sort -Vu | tail -1)
        if dpkg --compare-versions "${needs#GLIBC_}" gt "$says"; then
            rm -f "$1"
            echo "build-deb.sh: $name asks for $needs, the package would say libc6 (>= $says)" >&2
            exit 1
        fi
    done
}

compression=()
if [ "${1:-}" = --fast ]; then
    compression=(--fast)
    shift
fi
[ $# -gt 0 ] || set -- arm64 amd64
for arch in "$@"; do
    case $arch in
        arm64)
            .cargo/build-aarch64.sh
            triple=aarch64-unknown-linux-gnu
            options=(--target $triple)
            programs=$target/$triple/release
            ;;
        amd64)
            cargo build --release --locked --workspace --bins
            options=(--variant amd64)
            programs=$target/release
            ;;
        *) echo "build-deb.sh: no architecture $arch: arm64 or amd64" >&2; exit 2 ;;
    esac
    # For the packager alone: tract's build script asks for the variable too, and would compile tract again after every commit.
    deb=$(SOURCE_DATE_EPOCH=$epoch "$packager" deb -p firmware --no-build --quiet ${compression[@]+"${compression[@]}"} "${options[@]}" | tail -1)
    check_glibc "$deb" "$programs"
    echo "$deb: $(stat -c %s "$deb") bytes, installed $(dpkg-deb -f "$deb" Installed-Size) KiB"
done
