#!/usr/bin/env bash
# What a window costs onnxruntime on aarch64, beside tests/instructions.sh and counted as there: the same network in f32 at one thread.
# The interpreter does not count.
#   tests/instructions-onnxruntime.sh FILE.onnx [WORK]      WORK [default: vm-work/onnxruntime] keeps what was downloaded (60 MB, once)
# FILE.onnx has one input and takes zeros: models/training/export.py writes one. CPUS names other cores.
set -euo pipefail
cd "$(dirname "$0")/.."
. .cargo/prepare.sh
. .cargo/arm64-apt.sh
case ${1:---help} in -h | --help) sed -n '2,5s/^# \{0,1\}//p' "$0"; exit 2 ;; esac
model=$(realpath "$1") work=$(realpath -m "${2:-vm-work/onnxruntime}") here=$PWD
need_packages qemu-user build-essential python3-pip debian-archive-keyring
version=$(sed -n 's/^onnxruntime==//p' models/training/requirements.txt)
mkdir -p "$work"
. tests/instructions-count.sh
counter "$work"
cd "$work"
if [ ! -f .done-"$version" ]; then
    # An aarch64 Python 3.11 (Debian 12's) and the wheel that a board would install.
    rm -rf debs root site && mkdir -p debs root
    arm64_begin apt bookworm
    (cd debs && arm64_apt_get download python3.11-minimal libpython3.11-minimal libpython3.11-stdlib libc6 libgcc-s1 libstdc++6 zlib1g libexpat1 \
        libffi8 libssl3 libbz2-1.0 liblzma5)
    for deb in debs/*.deb; do dpkg-deb -x "$deb" root; done
    python3 -m pip install --quiet --no-deps --target site --python-version 3.11 --implementation cp --only-binary=:all: \
        --platform manylinux_2_28_aarch64 --platform manylinux_2_27_aarch64 --platform manylinux_2_17_aarch64 --platform manylinux2014_aarch64 \
        "onnxruntime==$version" "$(grep '^numpy==' "$here/models/training/requirements.txt")"
    # onnxruntime reads the cores from files that qemu-user leaves as this machine's own, and dies of an x86's.
    mkdir -p root/proc root/sys/devices/system/cpu/cpu0/topology
    for file in possible present online; do echo 0 >root/sys/devices/system/cpu/$file; done
    touch ".done-$version"
fi
cat >run.py <<'PYTHON'
import sys

import numpy
import onnxruntime

options = onnxruntime.SessionOptions()
options.intra_op_num_threads = options.inter_op_num_threads = 1
session = onnxruntime.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])
wanted = session.get_inputs()[0]
picture = numpy.zeros([1 if isinstance(n, str) else n for n in wanted.shape], numpy.float32)
for _ in range(int(sys.argv[2])):
    session.run(None, {wanted.name: picture})
PYTHON
session() {
    env -i PYTHONPATH="$work/site" PYTHONHASHSEED=0 PYTHONDONTWRITEBYTECODE=1 qemu-aarch64 -cpu "$3" -L "$work/root" -plugin "$2" \
        "$work/root/usr/bin/python3.11" "$work/run.py" "$model" "$1"
}
part() { case $1 in cortex-a76) echo 0xd0b asimddp asimdhp ;; *) echo 0xd08 ;; esac; }
for cpu in ${CPUS:-cortex-a72 cortex-a76}; do
    read -r number features < <(part "$cpu")
    printf 'processor\t: 0\nFeatures\t: fp asimd crc32 %s\nCPU implementer\t: 0x41\nCPU architecture: 8\nCPU variant\t: 0x0\nCPU part\t: %s\nCPU revision\t: 3\n' \
        "$features" "$number" >root/proc/cpuinfo
    count_windows "$work" "$cpu" "$cpu, onnxruntime $version" session
done
