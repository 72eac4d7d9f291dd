#!/usr/bin/env bash
# The update's faults, with figures: power cuts at 100 places (and at every place of a start, a verdict, a rollback), disks
# that fill or fail, bundles that are refused, releases that end at once, hang or never score a window. About four minutes,
# two of them waiting. Needs strace, dpkg-deb and mosquitto; without them this fails.
set -euo pipefail
cd "$(dirname "$0")/../.."
. .cargo/prepare.sh
need_packages build-essential pkg-config libasound2-dev ca-certificates mosquitto mosquitto-clients strace dpkg
need_rust
export CI=true
run() { cargo test --release --workspace --locked --test "$1" -- --nocapture "${@:2}"; }
# What is installed by the programs of this build.
cargo build --release --workspace --bins --locked --quiet
run refused 2>&1 | grep -E '^test '
run trials 2>&1 | grep -E '^test '
run crash 2>&1 | grep -E '^test |: killed at|calls: '
run update --include-ignored 2>&1 | grep -E '^test |: back after'
echo "update: all passed"
