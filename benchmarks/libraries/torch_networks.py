"""The networks of cyconv.models in torch.nn, as they are written with PyTorch; the driver compares parameter counts."""
# ruff: noqa: D102 (each forward is torch.nn.Module's)

from __future__ import annotations

import torch
from torch import nn

BLOCKS_OF_MOBILENET = (
    *((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2)),
    *(((512, 1),) * 5),
    *((1024, 2), (1024, 1)),
)


def lenet5(channels: int, classes: int) -> nn.Module:
    return nn.Sequential(
        *(nn.Conv2d(channels, 6, 5), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2)),
        nn.Flatten(),
        *(nn.Linear(400, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, classes)),
    )


def convolution(channels: int, out: int, kernel: int, stride: int = 1, groups: int = 1, relu: bool = True):
    """Return a convolution that keeps the size, its batch normalisation and a ReLU."""
    conv = nn.Conv2d(channels, out, kernel, stride, kernel // 2, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(out), *([nn.ReLU(inplace=True)] if relu else []))


class Residual(nn.Module):
    """A body beside a shortcut, and a ReLU after their sum."""

    def __init__(self, body: nn.Module, channels: int, out: int, stride: int):
        super().__init__()
        self.body = body
        same = stride == 1 and channels == out
        self.shortcut = nn.Identity() if same else convolution(channels, out, 1, stride, relu=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu_(self.body(x) + self.shortcut(x))


def head(channels: int, classes: int) -> list[nn.Module]:
    return [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, classes)]


def resnet20(channels: int, classes: int) -> nn.Module:
    blocks: list[nn.Module] = [convolution(channels, 16, 3)]
    width = 16
    for out in (16, 32, 64):
        for i in range(3):
            stride = 2 if out > width and i == 0 else 1
            body = nn.Sequential(convolution(width, out, 3, stride), convolution(out, out, 3, relu=False))
            blocks.append(Residual(body, width, out, stride))
            width = out
    return nn.Sequential(*blocks, *head(64, classes))


def resnet50(channels: int, classes: int) -> nn.Module:
    blocks: list[nn.Module] = [convolution(channels, 64, 7, 2), nn.MaxPool2d(3, 2, 1)]
    width = 64
    for stage, count in enumerate((3, 4, 6, 3)):
        inner = 64 << stage
        for i in range(count):
            stride = 2 if stage > 0 and i == 0 else 1
            body = nn.Sequential(
                convolution(width, inner, 1),
                convolution(inner, inner, 3, stride),
                convolution(inner, 4 * inner, 1, relu=False),
            )
            blocks.append(Residual(body, width, 4 * inner, stride))
            width = 4 * inner
    return nn.Sequential(*blocks, *head(2048, classes))


def vgg11_bn(channels: int, classes: int) -> nn.Module:
    layers: list[nn.Module] = []
    for widths in ((64,), (128,), (256, 256), (512, 512), (512, 512)):
        for width in widths:
            layers += [nn.Conv2d(channels, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU(inplace=True)]
            channels = width
        layers.append(nn.MaxPool2d(2))
    return nn.Sequential(*layers, *head(512, classes))


def mobilenet(channels: int, classes: int) -> nn.Module:
    layers: list[nn.Module] = [convolution(channels, 32, 3)]
    width = 32
    for out, stride in BLOCKS_OF_MOBILENET:
        layers += [convolution(width, width, 3, stride, groups=width), convolution(width, out, 1)]
        width = out
    return nn.Sequential(*layers, *head(1024, classes))


class UNet(nn.Module):
    """The U-Net with padded convolutions, so that the output has the size of the image."""

    def __init__(self, channels: int, classes: int):
        super().__init__()
        widths = (64, 128, 256, 512, 1024)
        ins = (channels, *widths)
        self.down = nn.ModuleList(self._pair(ins[i], widths[i]) for i in range(5))
        self.up = nn.ModuleList(nn.ConvTranspose2d(2 * width, width, 2, 2) for width in widths[3::-1])
        self.merge = nn.ModuleList(self._pair(2 * width, width) for width in widths[3::-1])
        self.last = nn.Conv2d(64, classes, 1)

    @staticmethod
    def _pair(channels: int, out: int) -> nn.Module:
        return nn.Sequential(
            *(nn.Conv2d(channels, out, 3, padding=1), nn.ReLU(inplace=True)),
            *(nn.Conv2d(out, out, 3, padding=1), nn.ReLU(inplace=True)),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        skipped = []
        for i, down in enumerate(self.down):
            x = down(x if i == 0 else nn.functional.max_pool2d(x, 2))
            skipped.append(x)
        for up, merge, skip in zip(self.up, self.merge, skipped[3::-1], strict=True):
            x = merge(torch.cat([skip, up(x)], 1))
        return self.last(x)


NETWORKS = {
    "LeNet-5": lenet5,
    "ResNet-20": resnet20,
    "ResNet-50": resnet50,
    "VGG-11-BN": vgg11_bn,
    "MobileNet": mobilenet,
    "U-Net": UNet,
}
