"""The distinct layers of real networks, at the batch sizes people train them with on a CPU."""

from __future__ import annotations

from typing import NamedTuple


class Conv(NamedTuple):
    """One convolution layer: input (batch, in_channels, size, size)."""

    network: str
    batch: int
    in_channels: int
    out_channels: int
    size: int
    kernel: int
    stride: int = 1
    padding: int = 0
    groups: int = 1

    @property
    def label(self) -> str:
        """Return the layer in the field's shorthand."""
        kind = f"dw{self.kernel}x{self.kernel}" if self.groups > 1 else f"{self.kernel}x{self.kernel}"
        stride = f" s{self.stride}" if self.stride > 1 else ""
        return f"{self.network} {kind}{stride} {self.in_channels}-{self.out_channels} @{self.size} n{self.batch}"

    @property
    def operations(self) -> int:
        """Return the floating-point operations of one direction: two for each multiply-add."""
        out = (self.size + 2 * self.padding - self.kernel) // self.stride + 1
        taps = self.kernel**2 * self.in_channels // self.groups
        return 2 * self.batch * self.out_channels * out * out * taps


VGG16 = [
    Conv("VGG-16", 4, 3, 64, 224, 3, 1, 1),
    Conv("VGG-16", 4, 64, 64, 224, 3, 1, 1),
    Conv("VGG-16", 4, 64, 128, 112, 3, 1, 1),
    Conv("VGG-16", 4, 128, 128, 112, 3, 1, 1),
    Conv("VGG-16", 4, 128, 256, 56, 3, 1, 1),
    Conv("VGG-16", 4, 256, 256, 56, 3, 1, 1),
    Conv("VGG-16", 4, 256, 512, 28, 3, 1, 1),
    Conv("VGG-16", 4, 512, 512, 28, 3, 1, 1),
    Conv("VGG-16", 4, 512, 512, 14, 3, 1, 1),
]
RESNET50 = [
    Conv("ResNet-50", 8, 3, 64, 224, 7, 2, 3),
    Conv("ResNet-50", 8, 64, 64, 56, 1),
    Conv("ResNet-50", 8, 64, 64, 56, 3, 1, 1),
    Conv("ResNet-50", 8, 64, 256, 56, 1),
    Conv("ResNet-50", 8, 256, 64, 56, 1),
    Conv("ResNet-50", 8, 256, 512, 56, 1, 2),
    Conv("ResNet-50", 8, 128, 128, 56, 3, 2, 1),
    Conv("ResNet-50", 8, 128, 128, 28, 3, 1, 1),
    Conv("ResNet-50", 8, 128, 512, 28, 1),
    Conv("ResNet-50", 8, 512, 128, 28, 1),
    Conv("ResNet-50", 8, 512, 1024, 28, 1, 2),
    Conv("ResNet-50", 8, 256, 256, 14, 3, 1, 1),
    Conv("ResNet-50", 8, 256, 1024, 14, 1),
    Conv("ResNet-50", 8, 1024, 256, 14, 1),
    Conv("ResNet-50", 8, 1024, 2048, 14, 1, 2),
    Conv("ResNet-50", 8, 512, 512, 7, 3, 1, 1),
    Conv("ResNet-50", 8, 512, 2048, 7, 1),
    Conv("ResNet-50", 8, 2048, 512, 7, 1),
]
RESNET20 = [
    Conv("ResNet-20", 128, 3, 16, 32, 3, 1, 1),
    Conv("ResNet-20", 128, 16, 16, 32, 3, 1, 1),
    Conv("ResNet-20", 128, 16, 32, 32, 3, 2, 1),
    Conv("ResNet-20", 128, 32, 32, 16, 3, 1, 1),
    Conv("ResNet-20", 128, 32, 64, 16, 3, 2, 1),
    Conv("ResNet-20", 128, 64, 64, 8, 3, 1, 1),
]
LENET5 = [Conv("LeNet-5", 64, 1, 6, 32, 5), Conv("LeNet-5", 64, 6, 16, 14, 5)]
MOBILENET = [
    Conv("MobileNet", 8, 3, 32, 224, 3, 2, 1),
    Conv("MobileNet", 8, 32, 32, 112, 3, 1, 1, 32),
    Conv("MobileNet", 8, 32, 64, 112, 1),
    Conv("MobileNet", 8, 64, 64, 112, 3, 2, 1, 64),
    Conv("MobileNet", 8, 64, 128, 56, 1),
    Conv("MobileNet", 8, 128, 128, 56, 3, 1, 1, 128),
    Conv("MobileNet", 8, 128, 128, 56, 3, 2, 1, 128),
    Conv("MobileNet", 8, 256, 256, 28, 3, 1, 1, 256),
    Conv("MobileNet", 8, 256, 256, 28, 1),
    Conv("MobileNet", 8, 512, 512, 14, 3, 1, 1, 512),
    Conv("MobileNet", 8, 512, 512, 14, 1),
    Conv("MobileNet", 8, 512, 512, 14, 3, 2, 1, 512),
    Conv("MobileNet", 8, 1024, 1024, 7, 3, 1, 1, 1024),
    Conv("MobileNet", 8, 1024, 1024, 7, 1),
]
CONVOLUTIONS = [*VGG16, *RESNET50, *RESNET20, *LENET5, *MOBILENET]

DIRECT = Conv("ResNet-50", 8, 64, 64, 56, 3, 1, 1)  # measured with the direct kernel alone, against the FMA peak


class Image(NamedTuple):
    """The input of a pooling or normalisation layer: (batch, channels, size, size)."""

    batch: int
    channels: int
    size: int


POOLS = {  # name: (kernel, stride, padding, inputs)
    "max 2x2": (2, 2, 0, [Image(4, 64, 224), Image(4, 256, 56), Image(64, 6, 28), Image(64, 16, 10)]),
    "max 3x3 s2": (3, 2, 1, [Image(8, 64, 112), Image(32, 96, 55)]),
    "average 2x2": (2, 2, 0, [Image(8, 128, 56), Image(64, 6, 28)]),
    "average 7x7": (7, 7, 0, [Image(8, 2048, 7)]),
}
NORMS = [Image(8, 64, 112), Image(8, 256, 56), Image(8, 1024, 14), Image(128, 16, 32), Image(128, 64, 8)]
