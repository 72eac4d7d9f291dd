# Sourced behind prepare.sh: arm64 packages from this machine's Debian archive, by an apt of their own. arm64 as a foreign architecture would change
# what is installed here. Addresses are those that this machine's own apt uses.
#   arm64_begin DIR SUITE   lists of SUITE (bullseye or bookworm) and of bookworm's updates, in DIR
#   arm64_apt_get ARGS, arm64_apt_cache ARGS

# The address of a suite on this machine's mirror; its lists may have been cleaned away.
debian_mirror() { # CODENAME
    local found
    found=$(apt-get indextargets --format '$(REPO_URI)' "Codename: $1" | head -1)
    if [ -z "$found" ]; then
        as_root apt-get -qq update >&2
        found=$(apt-get indextargets --format '$(REPO_URI)' "Codename: $1" | head -1)
    fi
    echo "$found"
}

arm64_begin() {
    local dir suite=$2 key='[signed-by=/usr/share/keyrings/debian-archive-keyring.gpg]' main security
    dir=$(realpath -m "$1")
    main=$(debian_mirror bookworm)
    security=$(debian_mirror bookworm-security)
    [ -n "$main" ] || { echo "apt knows no Debian 12 (bookworm) on this machine" >&2; return 1; }
    rm -rf "$dir"
    mkdir -p "$dir"/{state/lists/partial,cache/archives/partial}
    : >"$dir/status"
    {
        printf 'deb %s %s %s main\n' "$key" "$main" "$suite"
        [ -z "$security" ] || printf 'deb %s %s %s-security main\n' "$key" "$security" "$suite" "$key" "$security" bookworm
    } | sort -u >"$dir/sources.list"
    arm64_options=(-o APT::Architecture=arm64 -o APT::Architectures=arm64 -o APT::Sandbox::User=root -o Acquire::Languages=none
        -o Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false -o Dir::State="$dir/state" -o Dir::State::status="$dir/status"
        -o Dir::Cache="$dir/cache" -o Dir::Etc::sourcelist="$dir/sources.list" -o Dir::Etc::sourceparts=-)
    arm64_apt_get update
}
arm64_apt_get() { apt-get -qq "${arm64_options[@]}" "$@"; }
arm64_apt_cache() { apt-cache "${arm64_options[@]}" "$@"; }
