"""ResNet34 in torchvision's layout, with one or three input channels, and weights of another one to start from.

ResNet18, of the same layout and half the work, is for comparisons of what a network is shown and asked (compare_inputs.py).
"""

import torch
import torchvision


# Of the third stage.
STAGE_CHANNELS = 256


class TwoDepths(torchvision.models.ResNet):
    """ResNet34 whose logits are the last stage's and those of a dense layer over the third stage's means, added (early.py)."""

    def __init__(self, classes):
        super().__init__(torchvision.models.resnet.BasicBlock, [3, 4, 6, 3], num_classes=classes)
        self.early_fc = torch.nn.Linear(STAGE_CHANNELS, classes)

    def third_stage(self, picture):
        """What the third stage makes of pictures: [batch, 256, bands / 16, frames / 16]."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(picture))))
        return self.layer3(self.layer2(self.layer1(x)))

    def forward(self, picture):
        stage = self.third_stage(picture)
        third, last = (torch.flatten(self.avgpool(x), 1) for x in (stage, self.layer4(stage)))
        return self.fc(last) + self.early_fc(third)


def two_depths(manifest):
    """The network that a manifest's pictures and labels ask for, with an early opinion."""
    network = TwoDepths(len(manifest["labels"]))
    return with_channels(network, 1 if manifest["front_end"]["colormap"] == "none" else 3)


def with_channels(network, channels):
    """The first convolution for pictures of so many channels."""
    if channels != 3:
        network.conv1 = torch.nn.Conv2d(channels, 64, kernel_size=7, stride=2, padding=3, bias=False)
        torch.nn.init.kaiming_normal_(network.conv1.weight, mode="fan_out", nonlinearity="relu")
    return network


def resnet34(channels, classes, depth=34):
    """The network: only its first convolution differs from torchvision's, and only where `channels` is 1."""
    build = {18: torchvision.models.resnet18, 34: torchvision.models.resnet34}[depth]
    return with_channels(build(weights=None, num_classes=classes, zero_init_residual=True), channels)


def of_manifest(manifest, depth=34):
    """The network that a manifest's pictures and labels ask for."""
    return resnet34(1 if manifest["front_end"]["colormap"] == "none" else 3, len(manifest["labels"]), depth)


def of_model(state):
    """The network of a `model.pt` as train.py writes it, for scoring."""
    early = "early_fc.weight" in state["network"]
    network = two_depths(state["manifest"]) if early else of_manifest(state["manifest"], state.get("depth", 34))
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
