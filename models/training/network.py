"""ResNet34 in torchvision's layout, with one or three input channels."""

import torch
import torchvision


def resnet34(channels, classes):
    """The network: only its first convolution differs from torchvision's, and only where `channels` is 1."""
    network = torchvision.models.resnet34(weights=None, num_classes=classes, zero_init_residual=True)
    if channels != 3:
        network.conv1 = torch.nn.Conv2d(channels, 64, kernel_size=7, stride=2, padding=3, bias=False)
        torch.nn.init.kaiming_normal_(network.conv1.weight, mode="fan_out", nonlinearity="relu")
    return network
