"""From model.pt to ONNX and the manifest that `host-tools convert` takes.

    python export.py WORK/model.pt --manifest scream-resnet34.toml --out DIR

Batch normalisation is folded into the convolutions (exact in evaluation mode). Writes model.onnx and manifest.toml.
"""

import argparse
from pathlib import Path

import torch
from torch.nn.utils.fusion import fuse_conv_bn_eval

from front_end import FrontEnd
from network import of_model


def fold_batch_norm(network):
    """Every convolution of a torchvision ResNet takes its batch normalisation in."""
    network.conv1, network.bn1 = fuse_conv_bn_eval(network.conv1, network.bn1), torch.nn.Identity()
    for layer in (network.layer1, network.layer2, network.layer3, network.layer4):
        for block in layer:
            block.conv1, block.bn1 = fuse_conv_bn_eval(block.conv1, block.bn1), torch.nn.Identity()
            block.conv2, block.bn2 = fuse_conv_bn_eval(block.conv2, block.bn2), torch.nn.Identity()
            if block.downsample is not None:
                block.downsample = torch.nn.Sequential(fuse_conv_bn_eval(block.downsample[0], block.downsample[1]))
    return network


def with_normalisation(text, front_end):
    """The manifest's text with the measured mean and deviation after its `normalisation` line."""
    if front_end["normalisation"] != "fixed" or "\nmean" in text:
        return text
    numbers = "".join(f"{key} = [{', '.join(f'{x:.4f}' for x in front_end[key])}]\n" for key in ("mean", "deviation"))
    line = 'normalisation = "fixed"\n'
    return text.replace(line, line + numbers)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--manifest", required=True)
    parser.add_argument("--out", required=True)
    parser.add_argument("--prior", nargs="*", default=[], metavar="LABEL=LOGITS", help="what stands at a site more often than in training: added to these labels' logits")
    args = parser.parse_args()
    state = torch.load(args.model, map_location="cpu")
    front_end = state["manifest"]["front_end"]
    network = of_model(state)
    labels = state["manifest"]["labels"]
    with torch.no_grad():
        for text in args.prior:
            label, logits = text.split("=")
            network.fc.bias[labels.index(label)] += float(logits)
    window = torch.zeros(1, round(front_end["window_s"] * front_end["sample_rate_hz"]))
    picture = torch.randn_like(FrontEnd(front_end)(window))
    with torch.no_grad():
        before = network(picture)
        fold_batch_norm(network)
        after = network(picture)
    print(f"folding batch normalisation moved a logit by {(before - after).abs().max():.1e}")
    out = Path(args.out)
    out.mkdir(parents=True, exist_ok=True)
    torch.onnx.export(network, (picture,), out / "model.onnx", input_names=["picture"], output_names=["logits"], opset_version=17, dynamo=False)
    (out / "manifest.toml").write_text(with_normalisation(Path(args.manifest).read_text(), front_end))
    print(f"step {state['step']}, validation {state['validation']}")


if __name__ == "__main__":
    main()
