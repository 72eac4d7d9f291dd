"""The network of the system tests: a few KB, weights set by hand, the same bytes at every run.

    python tiny.py ../../tests/data

It scores the mean of the mel bands from about 1.8 to 3.6 kHz (every sampling rate from 8 kHz up holds them), so loud hiss
is near 1, and silence, quiet noise and low tones are near 0. Writes tiny/model.onnx with the manifest that `host-tools convert`
takes, nan/model.onnx (the same picture in; loud sound gives no number) and no_stride/model.onnx (a pooling that never gets on: tract
divides by it).
"""

import argparse
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

BANDS, FRAMES = 64, 32
HEARD = slice(32, 46)
# log2 of the mel power in the heard bands: hiss of 0.2 RMS gives about +2, of 0.001 RMS about -13, silence -33.
CENTRE = -4.0

MANIFEST = """\
schema = 1
name = "tiny"
version = "1.0.0"
labels = ["other", "scream"]
alarm_labels = ["scream"]
output = "logits"
[front_end]
sample_rate_hz = 16000
window_s = 1.0
n_fft = 1024
hop = 512
n_mels = 64
f_min_hz = 0.0
f_max_hz = 8000.0
mel_scale = "htk"
log = "log2"
normalisation = "none"
colormap = "none"
[decision]
stride_s = 0.5
threshold_on = 0.80
threshold_off = 0.50
votes = { needed = 1, of = 2 }
hold_s = 2.0
cooldown_s = 3.0
"""


def save(path, nodes, tensors):
    picture = helper.make_tensor_value_info("picture", TensorProto.FLOAT, [1, 1, BANDS, FRAMES])
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, 2])
    weights = [numpy_helper.from_array(values, name) for name, values in tensors.items()]
    graph = helper.make_graph(nodes, "tiny", [picture], [logits], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8, producer_name="screamd")
    onnx.checker.check_model(model)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(model.SerializeToString(deterministic=True))
    print(path, path.stat().st_size, "bytes")


def tiny(path):
    """One dense layer: large enough (2 x 2048) for `convert` to store it in 16 and 8 bits."""
    weights = np.zeros((2, BANDS, FRAMES), np.float32)
    heard = len(range(*HEARD.indices(BANDS))) * FRAMES
    # Not all equal, so that 8 bits have something to round.
    ripple = 1 + 0.25 * np.cos(np.arange(FRAMES) * 2 * np.pi / FRAMES)
    weights[1, HEARD] = ripple / heard
    nodes = [
        helper.make_node("Flatten", ["picture"], ["flat"], axis=1),
        helper.make_node("Gemm", ["flat", "weights", "bias"], ["logits"], transB=1),
    ]
    save(path, nodes, {"weights": weights.reshape(2, -1), "bias": np.array([0, -CENTRE], np.float32)})


def not_a_number(path):
    """The square root of what is negative for loud sound; `other` wins for quiet."""
    nodes = [
        helper.make_node("ReduceMean", ["picture"], ["mean"], axes=[1, 2, 3], keepdims=0),
        helper.make_node("Reshape", ["mean", "row"], ["column"]),
        helper.make_node("Gemm", ["column", "weights", "bias"], ["signed"]),
        helper.make_node("Sqrt", ["signed"], ["logits"]),
    ]
    weights = np.array([[-2, -1]], np.float32)
    save(path, nodes, {"row": np.array([1, 1]), "weights": weights, "bias": np.array([2 * CENTRE, CENTRE], np.float32)})


def no_stride(path):
    """Shapes as the others have; what computes them divides by 0."""
    nodes = [
        helper.make_node("MaxPool", ["picture"], ["pooled"], kernel_shape=[2, 2], strides=[0, 0]),
        helper.make_node("Flatten", ["pooled"], ["flat"], axis=1),
        helper.make_node("Gemm", ["flat", "weights", "bias"], ["logits"], transB=1),
    ]
    save(path, nodes, {"weights": np.zeros((2, 1), np.float32), "bias": np.zeros(2, np.float32)})


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    out = parser.parse_args().out
    tiny(out / "tiny" / "model.onnx")
    (out / "tiny" / "manifest-in.toml").write_text(MANIFEST)
    not_a_number(out / "nan" / "model.onnx")
    no_stride(out / "no_stride" / "model.onnx")


if __name__ == "__main__":
    main()
