"""Time of one inference beside onnxruntime: the same network, pictures of one size, the same number of threads.

    python compare_onnxruntime.py --host-tools ../../target/release/host-tools [--threads 1] [--frames 126] [--channels 1]
    python compare_onnxruntime.py --host-tools ... --onnx FILE --manifest FILE

Without --onnx the network is ResNet34 with seeded weights: time does not depend on what it has learnt. onnxruntime computes in
f32. Ours is measured as `convert` makes it: weights in 32 bits, in 8 bits with float arithmetic, and in 8 bits with integer
arithmetic. All take turns, so that another program on the machine slows each alike; what is printed is the median over the
rounds of each round's median, and its ratio to onnxruntime's. Needs the requirements and onnxruntime.
"""

import argparse
import json
import re
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

import numpy as np
import onnxruntime
import torch

from network import resnet34

MANIFEST = """\
schema = 1
name = "comparison"
version = "1.0.0"
labels = ["other", "scream"]
alarm_labels = ["scream"]
[front_end]
sample_rate_hz = 16000
window_s = {window_s}
n_fft = 1024
hop = 512
n_mels = 64
f_min_hz = 0.0
f_max_hz = 8000.0
mel_scale = "htk"
log = "log2"
normalisation = "min_max"
colormap = "{colormap}"
[decision]
stride_s = 2.0
threshold_on = 0.8
threshold_off = 0.5
votes = {{ needed = 1, of = 1 }}
hold_s = 10.0
cooldown_s = 30.0
"""


def seeded(folder, channels, frames):
    """A ResNet34 and the manifest whose window gives that many frames."""
    torch.manual_seed(1)
    network = resnet34(channels, 2).eval()
    for module in network.modules():
        # A new network's last layer of each block is 0, which would be stored in 8 bits without being asked.
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.weight, 0.5, 1.0)
    path = folder / "network.onnx"
    torch.onnx.export(
        network, torch.zeros(1, channels, 64, frames), path, input_names=["picture"], output_names=["logits"], dynamo=False
    )
    manifest = folder / "manifest.toml"
    colormap = {1: "none", 3: "viridis"}[channels]
    manifest.write_text(MANIFEST.format(window_s=(frames - 1) * 512 / 16000, colormap=colormap))
    return path, manifest


def convert(host_tools, onnx, manifest, out, weights, arithmetic):
    """A model folder; `arithmetic` is put in front of the manifest's own keys."""
    text = re.sub(r"(?m)^arithmetic *=.*\n", "", manifest.read_text())
    own = out.with_suffix(".toml")
    own.write_text(f'arithmetic = "{arithmetic}"\n{text}')
    command = [host_tools, "convert", "--onnx", onnx, "--manifest", own, "--out", out, "--weights", weights]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return out


def bench(host_tools, model, threads, windows):
    """Median of one run of `host-tools bench`, ms, and its resident memory, MiB."""
    with tempfile.NamedTemporaryFile(suffix=".json") as file:
        command = [host_tools, "bench", "--model", model, "--threads", threads, "--windows", windows, "--json", file.name]
        subprocess.run([str(word) for word in command], check=True, stdout=subprocess.DEVNULL)
        figures = json.load(open(file.name, encoding="utf-8"))
    return figures["inference_ms"]["p50"], figures["rss_mib"]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--host-tools", type=Path, required=True)
    parser.add_argument("--onnx", type=Path)
    parser.add_argument("--manifest", type=Path)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--channels", type=int, default=1, choices=[1, 3])
    parser.add_argument("--frames", type=int, default=126)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--windows", type=int, default=20)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    if (args.onnx is None) != (args.manifest is None):
        parser.error("--onnx and --manifest go together")
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        onnx, manifest = (args.onnx, args.manifest) if args.onnx else seeded(folder, args.channels, args.frames)
        models = {
            f"ours, {weights} weights, {arithmetic}": convert(
                args.host_tools, onnx, manifest, folder / f"{weights}-{arithmetic}", weights, arithmetic
            )
            for weights, arithmetic in [("f32", "float"), ("int8", "float"), ("int8", "integer")]
        }
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = args.threads
        options.inter_op_num_threads = 1
        session = onnxruntime.InferenceSession(onnx, options, providers=["CPUExecutionProvider"])
        entry = session.get_inputs()[0]
        picture = np.random.default_rng(1).standard_normal(entry.shape).astype(np.float32)
        session.run(None, {entry.name: picture})

        reference = f"onnxruntime {onnxruntime.__version__}, f32"
        times, memory = {name: [] for name in [reference, *models]}, {}
        for _ in range(args.rounds):
            taken = []
            for _ in range(args.windows):
                began = time.perf_counter()
                session.run(None, {entry.name: picture})
                taken.append((time.perf_counter() - began) * 1000)
            times[reference].append(statistics.median(taken))
            for name, model in models.items():
                median, memory[name] = bench(args.host_tools, model, args.threads, args.windows)
                times[name].append(median)
    print(f"picture {'x'.join(map(str, entry.shape))}, {args.threads} thread(s), {args.rounds} rounds of {args.windows}")
    base = statistics.median(times[reference])
    rows = []
    for name, values in times.items():
        middle = statistics.median(values)
        rows.append({"engine": name, "ms": middle, "least_ms": min(values), "ratio": middle / base, "rss_mib": memory.get(name)})
        resident = f"{memory[name]:7.1f} MiB" if name in memory else ""
        print(f"{name:32} {middle:8.2f} ms (least {min(values):.2f})  {middle / base:5.2f} of onnxruntime's  {resident}")
    if args.json:
        args.json.write_text(json.dumps({"threads": args.threads, "picture": entry.shape, "rows": rows}, indent=1))


if __name__ == "__main__":
    main()
