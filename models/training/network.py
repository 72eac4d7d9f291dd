"""ResNet34 in torchvision's layout, with one or three input channels, and weights of another one to start from.

ResNet18, of the same layout and half the work, is for comparisons of what a network is shown and asked (compare_inputs.py).
"""

import torch
import torchvision


def resnet34(channels, classes, depth=34):
    """The network: only its first convolution differs from torchvision's, and only where `channels` is 1."""
    build = {18: torchvision.models.resnet18, 34: torchvision.models.resnet34}[depth]
    network = build(weights=None, num_classes=classes, zero_init_residual=True)
    if channels != 3:
        network.conv1 = torch.nn.Conv2d(channels, 64, kernel_size=7, stride=2, padding=3, bias=False)
        torch.nn.init.kaiming_normal_(network.conv1.weight, mode="fan_out", nonlinearity="relu")
    return network


def of_manifest(manifest, depth=34):
    """The network that a manifest's pictures and labels ask for."""
    return resnet34(1 if manifest["front_end"]["colormap"] == "none" else 3, len(manifest["labels"]), depth)


def of_model(state):
    """The network of a `model.pt` as train.py writes it, for scoring."""
    network = of_manifest(state["manifest"], state.get("depth", 34))
    network.load_state_dict(state["network"])
    return network.eval()


@torch.no_grad()
def take(network, state):
    """Loads another ResNet34's weights, whatever its channels and classes; what does not fit in the last layer stays as drawn."""
    state = dict(state)
    wanted = network.state_dict()
    first, mine = state["conv1.weight"], wanted["conv1.weight"]
    if first.shape[1] != mine.shape[1]:
        # Equal channels give the same sum either way.
        state["conv1.weight"] = first.sum(1, keepdim=True).expand_as(mine) / mine.shape[1]
    for key in ("fc.weight", "fc.bias"):
        if state[key].shape != wanted[key].shape:
            state[key] = wanted[key]
    network.load_state_dict(state)


def imagenet():
    """torchvision's weights: from torch.hub's cache where the file is, else from the network."""
    weights = torchvision.models.ResNet34_Weights.IMAGENET1K_V1
    try:
        return weights.get_state_dict(progress=True)
    except OSError as error:
        raise SystemExit(f"--init imagenet: {weights.url} cannot be had ({error}); put the file into {torch.hub.get_dir()}/checkpoints") from error
