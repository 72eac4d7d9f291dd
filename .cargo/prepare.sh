# Sourced by ./demo, ./test and .ci/run: installs what a fresh Debian or Raspberry Pi OS machine lacks.
# need_packages NAME... : Debian packages; need_rust : a Rust toolchain; need_rust_checks : its formatter and linter.

as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi
}

need_packages() {
    local missing=()
    for name in "$@"; do
        dpkg-query -W -f '${Status}' "$name" 2>/dev/null | grep -q 'ok installed' || missing+=("$name")
    done
    [ ${#missing[@]} = 0 ] && return
    command -v apt-get >/dev/null || { echo "please install: ${missing[*]}" >&2; return 1; }
    echo "installing ${missing[*]}" >&2
    as_root apt-get update -q >&2
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "${missing[@]}" >&2
}

# Whether there is a cargo that knows the code (Cargo.toml, rust-version).
rust_is_new() {
    local have wanted
    have=$(cargo --version 2>/dev/null | cut -d' ' -f2)
    wanted=$(sed -n 's/^rust-version = "\(.*\)"$/\1/p' Cargo.toml)
    [ -n "$have" ] && dpkg --compare-versions "$have" ge "$wanted"
}

# rust-toolchain.toml pins the compiler for those who have rustup. Debian 13 has rustup itself; Debian 12 has a compiler new
# enough as rustc-web.
need_rust() {
    [ -x "$HOME/.cargo/bin/cargo" ] && PATH="$HOME/.cargo/bin:$PATH"
    # rustup fetches what rust-toolchain.toml names; a distribution's own may be older than the code.
    command -v rustup >/dev/null && command -v cargo >/dev/null && return
    rust_is_new && return
    if apt-cache show rustup >/dev/null 2>&1; then
        need_packages rustup
    else
        need_packages rustc-web cargo-web
    fi
}

# `cargo fmt` and `cargo clippy`, for ./test: rustup brings them with the pinned toolchain, Debian 12 has packages of their own.
need_rust_checks() {
    cargo fmt --version >/dev/null 2>&1 && cargo clippy --version >/dev/null 2>&1 && return
    need_packages rustfmt-web rust-web-clippy
}
