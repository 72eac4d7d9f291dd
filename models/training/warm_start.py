"""Start training from a model folder: the weights that `host-tools convert` wrote, as a PyTorch network again.

Normalisation was folded into the convolutions on export. To train on, each convolution gets a batch normalisation back
whose running figures are measured over training windows and whose scale and shift undo it: in evaluation mode the network
computes what the folder's does, and in training mode its batches look as the running figures say.
"""

import io
import tarfile
from pathlib import Path

import numpy as np
import torch

from front_end import read_manifest

HEADER_BYTES = 128
# NNEF's item types as tract writes them: kind and bits of a value.
ITEMS = {(0, 32): np.float32, (0, 16): np.float16, (4, 8): np.int8, (1, 8): np.int8, (3, 8): np.int8}


def read_tensor(data):
    """One NNEF `.dat`: a header of 128 bytes, then the values."""
    if data[:2] != b"\x4e\xef":
        raise ValueError("not an NNEF tensor")
    rank = int.from_bytes(data[8:12], "little")
    shape = np.frombuffer(data, "<u4", rank, 12)
    bits = int.from_bytes(data[44:48], "little")
    kind = int.from_bytes(data[48:50], "little")
    values = np.frombuffer(data, ITEMS[kind, bits], int(np.prod(shape)), HEADER_BYTES)
    return values.reshape(shape)


def read_folder(folder):
    """Tensors of a model folder by name, 8-bit weights widened by their scales."""
    weights = Path(folder) / read_manifest(Path(folder) / "manifest.toml")["file"]
    with tarfile.open(fileobj=io.BytesIO(weights.read_bytes())) as archive:
        stored = {m.name.removesuffix(".dat"): archive.extractfile(m).read() for m in archive if m.name.endswith(".dat")}
    tensors = {name: read_tensor(data) for name, data in stored.items()}
    wide = {}
    for name, values in tensors.items():
        if name.endswith(".scale"):
            continue
        values = values.astype(np.float32)
        if name + ".scale" in tensors:
            # One for each output channel: the first axis that is one, behind those of size 1 that tract puts before it.
            before = next((axis for axis, size in enumerate(values.shape) if size > 1), 0)
            values = values * tensors[name + ".scale"].reshape(-1, *[1] * (values.ndim - 1 - before))
        wide[name] = torch.from_numpy(values.copy())
    return wide


def pairs(network):
    """Convolution and normalisation of a torchvision ResNet, by name, in the order of computation."""
    yield "conv1", network.conv1, network.bn1
    for number in range(1, 5):
        for place, block in enumerate(getattr(network, f"layer{number}")):
            name = f"layer{number}.{place}"
            yield f"{name}.conv1", block.conv1, block.bn1
            yield f"{name}.conv2", block.conv2, block.bn2
            if block.downsample is not None:
                yield f"{name}.downsample.0", block.downsample[0], block.downsample[1]


@torch.no_grad()
def warm_start(network, folder, pictures):
    """Loads `folder`'s weights into `network`; `pictures` (batches of training windows) give the running figures."""
    tensors = read_folder(folder)

    def find(name, kind):
        """A tensor as tract names it after the exporter: layer1.0.conv1 gives layer1/layer1.0/conv1/Conv.bias and more."""
        parts = name.split(".")
        nested = parts[0] if len(parts) == 1 else f"{parts[0]}/{parts[0]}.{parts[1]}/{parts[2]}"
        if parts[-1] == "0" and len(parts) == 4:
            nested += f"/{parts[2]}.0"
        beginnings = {"weight": (f"{name}.weight", f"{nested}/Conv.einsum", f"{nested}/Gemm.ab"), "bias": (f"{nested}/Conv.bias", f"{nested}/Gemm.beta_c")}
        found = [key for key in tensors if key.startswith(beginnings[kind])]
        if len(found) != 1:
            raise KeyError(f"{folder}: {len(found)} tensors for the {kind} of {name}")
        return tensors[found[0]]

    figures = {}
    biases = {}
    for name, convolution, normalisation in pairs(network):
        convolution.weight.copy_(find(name, "weight").reshape(convolution.weight.shape))
        biases[name] = find(name, "bias").flatten()
        # As folded: scale 1 and the bias as shift, with running figures of nothing.
        normalisation.running_mean.zero_()
        normalisation.running_var.fill_(1 - normalisation.eps)
        normalisation.weight.fill_(1)
        normalisation.bias.copy_(biases[name])
        figures[name] = [0, 0.0, 0.0]

        def count(_module, _input, output, name=name):
            total = figures[name]
            total[0] += output.numel() // output.shape[1]
            total[1] = total[1] + output.double().sum((0, 2, 3))
            total[2] = total[2] + output.double().square().sum((0, 2, 3))

        convolution._hook = convolution.register_forward_hook(count)
    dense = find("fc", "weight").squeeze()
    network.fc.weight.copy_(dense if dense.shape == network.fc.weight.shape else dense.T)
    network.fc.bias.copy_(find("fc", "bias").flatten())
    network.eval()
    before = [network(picture) for picture in pictures]
    for name, convolution, normalisation in pairs(network):
        convolution._hook.remove()
        del convolution._hook
        n, total, squares = figures[name]
        mean = (total / n).float()
        variance = (squares / n - (total / n) ** 2).clamp_min(1e-8).float()
        normalisation.running_mean.copy_(mean)
        normalisation.running_var.copy_(variance)
        normalisation.weight.copy_((variance + normalisation.eps).sqrt())
        normalisation.bias.copy_(biases[name] + mean)
    after = [network(picture) for picture in pictures]
    return max((a - b).abs().max().item() for a, b in zip(after, before))
