"""What is measured: layers of real networks at the batches people train them with on a CPU, sweeps, whole networks."""

from __future__ import annotations

from typing import NamedTuple

ITEM = 4  # bytes of a float32


class Conv(NamedTuple):
    """One convolution, or transposed convolution: input (batch, in_channels, size, size)."""

    network: str
    batch: int
    in_channels: int
    out_channels: int
    size: int
    kernel: int
    stride: int = 1
    padding: int = 0
    groups: int = 1
    transposed: bool = False
    output_padding: int = 0

    @property
    def out_size(self) -> int:
        """Return the height and width of the output."""
        if self.transposed:
            return (self.size - 1) * self.stride - 2 * self.padding + self.kernel + self.output_padding
        return (self.size + 2 * self.padding - self.kernel) // self.stride + 1

    @property
    def label(self) -> str:
        """Return the layer in the field's shorthand."""
        kind = f"{self.kernel}x{self.kernel}"
        if self.transposed:
            kind = f"tr{kind}"
        if self.groups > 1:
            kind = f"dw{kind}" if self.groups == self.in_channels else f"{kind} g{self.groups}"
        stride = f" s{self.stride}" if self.stride > 1 else ""
        return f"{self.network} {kind}{stride} {self.in_channels}-{self.out_channels} @{self.size} n{self.batch}"

    @property
    def operations(self) -> int:
        """Return the floating-point operations of one direction: two for each multiply-add."""
        pixels = self.size if self.transposed else self.out_size
        weights = self.kernel**2 * self.in_channels * self.out_channels // self.groups
        return 2 * self.batch * pixels**2 * weights

    def traffic(self, direction: str) -> int:
        """Return the bytes of one direction where input, weight and output cross the memory bus once each."""
        weights = self.kernel**2 * self.in_channels * self.out_channels // self.groups
        images = self.in_channels * self.size**2 + self.out_channels * self.out_size**2
        return ITEM * (self.batch * images + weights)

    @property
    def groups_of_table(self) -> list[str]:
        """Return the rows of the summary that this layer counts for."""
        return [name for name, belongs in CONVOLUTION_GROUPS.items() if belongs(self)]


class Pool(NamedTuple):
    """A pooling layer: input (batch, channels, size, size)."""

    op: str
    kernel: int
    stride: int
    padding: int
    batch: int
    channels: int
    size: int

    operations = 0
    groups_of_table = ("max/avg pooling, batch norm + ReLU", "max/avg pooling")

    @property
    def label(self) -> str:
        """Return the layer in the field's shorthand."""
        stride = "" if self.stride == self.kernel else f" s{self.stride}"
        return f"{self.op} {self.kernel}x{self.kernel}{stride} {self.channels} @{self.size} n{self.batch}"

    def traffic(self, direction: str) -> int:
        """Return the bytes of input and output, or of their gradients."""
        out = (self.size + 2 * self.padding - self.kernel) // self.stride + 1
        return ITEM * self.batch * self.channels * (self.size**2 + out**2)


class Norm(NamedTuple):
    """Batch normalisation of (batch, channels, size, size) while training, a ReLU after it or not."""

    batch: int
    channels: int
    size: int
    relu: bool

    operations = 0

    @property
    def label(self) -> str:
        """Return the layer in the field's shorthand."""
        return f"batch norm{' + ReLU' if self.relu else ''} {self.channels} @{self.size} n{self.batch}"

    @property
    def groups_of_table(self) -> list[str]:
        """Return the rows of the summary that this layer counts for."""
        return ["max/avg pooling, batch norm + ReLU", "batch norm + ReLU"] if self.relu else ["batch norm alone"]

    def traffic(self, direction: str) -> int:
        """Return the bytes of input and output; backward, of both gradients and the input."""
        return ITEM * self.batch * self.channels * self.size**2 * (2 if direction == "forward" else 3)


class Filter(NamedTuple):
    """A filter of cyconv.image on one picture of (size, size) or (size, size, channels)."""

    op: str
    extent: int  # of the kernel; of a Gaussian its standard deviation
    channels: int
    dtype: str
    size: int = 2048

    operations = 0
    batch = 1

    @property
    def label(self) -> str:
        """Return the filter and the picture."""
        return f"{self.op} {self.extent} {self.dtype} {self.colours} @{self.size}"

    @property
    def colours(self) -> str:
        """Return how many channels there are, in words."""
        return "grey" if self.channels == 1 else "colour"

    @property
    def groups_of_table(self) -> list[str]:
        """Return the rows of the summary that this filter counts for."""
        return ["image filters", f"image filters, {self.dtype}, {self.colours}"]

    def traffic(self, direction: str) -> int:
        """Return the bytes of picture and result, which is float32 for differences of uint8."""
        item = 1 if self.dtype == "uint8" else ITEM
        result = ITEM if self.op in ("sobel", "laplacian") else item
        return self.channels * self.size**2 * (item + result)


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
GOOGLENET = [  # its first layer is ResNet-50's; then of modules 3a, 3b, 4a, 4e and 5b
    Conv("GoogLeNet", 8, 64, 192, 56, 3, 1, 1),
    Conv("GoogLeNet", 8, 192, 16, 28, 1),
    Conv("GoogLeNet", 8, 192, 64, 28, 1),
    Conv("GoogLeNet", 8, 192, 96, 28, 1),
    Conv("GoogLeNet", 8, 96, 128, 28, 3, 1, 1),
    Conv("GoogLeNet", 8, 16, 32, 28, 5, 1, 2),
    Conv("GoogLeNet", 8, 128, 192, 28, 3, 1, 1),
    Conv("GoogLeNet", 8, 32, 96, 28, 5, 1, 2),
    Conv("GoogLeNet", 8, 480, 192, 14, 1),
    Conv("GoogLeNet", 8, 96, 208, 14, 3, 1, 1),
    Conv("GoogLeNet", 8, 16, 48, 14, 5, 1, 2),
    Conv("GoogLeNet", 8, 528, 256, 14, 1),
    Conv("GoogLeNet", 8, 160, 320, 14, 3, 1, 1),
    Conv("GoogLeNet", 8, 32, 128, 14, 5, 1, 2),
    Conv("GoogLeNet", 8, 832, 384, 7, 1),
    Conv("GoogLeNet", 8, 192, 384, 7, 3, 1, 1),
    Conv("GoogLeNet", 8, 48, 128, 7, 5, 1, 2),
]
UNET = [  # on 256x256, its convolutions padded
    Conv("U-Net", 2, 1, 64, 256, 3, 1, 1),
    Conv("U-Net", 2, 64, 64, 256, 3, 1, 1),
    Conv("U-Net", 2, 64, 128, 128, 3, 1, 1),
    Conv("U-Net", 2, 128, 256, 64, 3, 1, 1),
    Conv("U-Net", 2, 256, 512, 32, 3, 1, 1),
    Conv("U-Net", 2, 512, 1024, 16, 3, 1, 1),
    Conv("U-Net", 2, 1024, 1024, 16, 3, 1, 1),
    Conv("U-Net", 2, 1024, 512, 32, 3, 1, 1),
    Conv("U-Net", 2, 512, 256, 64, 3, 1, 1),
    Conv("U-Net", 2, 256, 128, 128, 3, 1, 1),
    Conv("U-Net", 2, 128, 64, 256, 3, 1, 1),
    Conv("U-Net", 2, 64, 2, 256, 1),
]
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
DEPTHWISE = [
    Conv("MobileNetV3", 8, 120, 120, 28, 5, 1, 2, 120),
    Conv("MobileNetV3", 8, 72, 72, 56, 5, 2, 2, 72),
    Conv("MobileNetV3", 8, 672, 672, 14, 5, 2, 2, 672),
    Conv("ConvNeXt-T", 8, 96, 96, 56, 7, 1, 3, 96),
    Conv("ConvNeXt-T", 8, 384, 384, 14, 7, 1, 3, 384),
    Conv("depthwise", 8, 128, 128, 56, 7, 2, 3, 128),
    Conv("depthwise x2", 8, 64, 128, 56, 3, 1, 1, 64),
    Conv("depthwise x2", 8, 64, 128, 56, 3, 2, 1, 64),
]
SMALL_GROUPS = [
    Conv("ResNeXt-50", 8, 128, 128, 56, 3, 1, 1, 32),
    Conv("ResNeXt-50", 8, 256, 256, 56, 3, 2, 1, 32),
    Conv("ResNeXt-50", 8, 256, 256, 28, 3, 1, 1, 32),
    Conv("ResNeXt-50", 8, 512, 512, 28, 3, 2, 1, 64),
    Conv("groups of 4", 8, 64, 64, 28, 5, 1, 2, 16),
]
TRANSPOSED = [
    Conv("U-Net", 2, 1024, 512, 16, 2, 2, transposed=True),
    Conv("U-Net", 2, 512, 256, 32, 2, 2, transposed=True),
    Conv("U-Net", 2, 256, 128, 64, 2, 2, transposed=True),
    Conv("U-Net", 2, 128, 64, 128, 2, 2, transposed=True),
    Conv("decoder", 8, 128, 64, 28, 3, 2, 1, transposed=True, output_padding=1),
    Conv("decoder", 8, 64, 32, 56, 3, 2, 1, transposed=True, output_padding=1),
    Conv("DCGAN", 64, 512, 256, 8, 4, 2, 1, transposed=True),
    Conv("DCGAN", 64, 256, 128, 16, 4, 2, 1, transposed=True),
    Conv("DCGAN", 64, 128, 3, 32, 4, 2, 1, transposed=True),
]
CONVOLUTIONS = [
    *(*VGG16, *RESNET50, *RESNET20, *LENET5, *GOOGLENET, *UNET),
    *(*MOBILENET, *DEPTHWISE, *SMALL_GROUPS, *TRANSPOSED),
]

DENSE_NETWORKS = ("VGG-16", "ResNet-50", "GoogLeNet", "U-Net", "LeNet-5")
SMALL_GROUP = 8  # channels


def _plain(layer: Conv) -> bool:
    return layer.groups == 1 and not layer.transposed


CONVOLUTION_GROUPS = {
    "3x3 stride 1, 32-512 channels": lambda layer: (
        _plain(layer)
        and (layer.kernel, layer.stride) == (3, 1)
        and min(layer.in_channels, layer.out_channels) >= 32
        and max(layer.in_channels, layer.out_channels) <= 512
    ),
    f"dense layers of {', '.join(DENSE_NETWORKS)}": lambda layer: _plain(layer) and layer.network in DENSE_NETWORKS,
    "1x1": lambda layer: _plain(layer) and layer.kernel == 1,
    "depthwise and small groups": lambda layer: (
        layer.groups > 1 and not layer.transposed and layer.in_channels // layer.groups <= SMALL_GROUP
    ),
    "transposed": lambda layer: layer.transposed,
    "all convolutions": lambda layer: True,
}

DIRECT = [Conv("ResNet-50", 8, 64, 64, 56, 3, 1, 1)]  # measured with the direct kernel alone, against the FMA peak

POOLS = [
    Pool("max", 2, 2, 0, 4, 64, 224),
    Pool("max", 2, 2, 0, 4, 256, 56),
    Pool("max", 2, 2, 0, 64, 6, 28),
    Pool("max", 2, 2, 0, 64, 16, 10),
    Pool("max", 3, 2, 1, 8, 64, 112),
    Pool("max", 3, 2, 1, 32, 96, 55),
    Pool("max", 3, 1, 1, 8, 192, 28),
    Pool("average", 2, 2, 0, 8, 128, 56),
    Pool("average", 2, 2, 0, 64, 6, 28),
    Pool("average", 7, 7, 0, 8, 2048, 7),
]
NORMS = [
    Norm(batch, channels, size, relu)
    for relu in (False, True)
    for batch, channels, size in [(8, 64, 112), (8, 256, 56), (8, 1024, 14), (128, 16, 32), (128, 64, 8), (2, 64, 256)]
]

FILTERS = [  # of a picture of four megapixels
    Filter(op, extent, channels, dtype)
    for dtype in ("uint8", "float32")
    for channels in (1, 3)
    for op, extent in [
        *[("gaussian", 1), ("gaussian", 3), ("box", 3), ("box", 15), ("sobel", 3), ("laplacian", 3), ("sharpen", 1)],
        *[("correlate", 3), ("correlate", 5), ("correlate", 7)],
    ]
]

# How cost grows: one layer, one of its measures varied.
SCALED = Conv("scaling", 8, 64, 64, 56, 3, 1, 1)
SWEEPS = {
    "batch": [SCALED._replace(batch=batch) for batch in (1, 2, 4, 8, 16, 32)],
    "image size": [SCALED._replace(size=size) for size in (7, 14, 28, 56, 112, 224)],
    "channels": [
        SCALED._replace(in_channels=channels, out_channels=channels) for channels in (4, 8, 16, 32, 64, 128, 256)
    ],
}
MEASURE = {"batch": "batch", "image size": "size", "channels": "in_channels"}


class Network(NamedTuple):
    """A whole network on a batch of images."""

    network: str
    batch: int
    input_shape: tuple[int, int, int]
    classes: int

    groups_of_table = ()

    @property
    def label(self) -> str:
        """Return the network, the images' size and the batch."""
        return f"{self.network} @{self.input_shape[1]} n{self.batch}"


LENET5_64 = Network("LeNet-5", 64, (1, 32, 32), 10)
RESNET20_128 = Network("ResNet-20", 128, (3, 32, 32), 10)
TRAINED = [
    LENET5_64,
    RESNET20_128,
    Network("VGG-11-BN", 64, (3, 32, 32), 10),
    Network("MobileNet", 64, (3, 32, 32), 10),
    Network("ResNet-50", 8, (3, 224, 224), 1000),
    Network("U-Net", 2, (1, 256, 256), 2),
]
MODELS = [  # the others of cyconv.models, at the size that they are made for
    Network("alexnet", 8, (3, 227, 227), 1000),
    Network("vgg16", 2, (3, 224, 224), 1000),
    Network("vgg19", 2, (3, 224, 224), 1000),
    Network("googlenet", 8, (3, 224, 224), 1000),
    Network("resnet18", 8, (3, 224, 224), 1000),
    Network("resnet_v2", 4, (3, 224, 224), 1000),
    Network("densenet121", 4, (3, 224, 224), 1000),
    Network("se_resnet50", 4, (3, 224, 224), 1000),
    Network("xception", 2, (3, 299, 299), 1000),
    Network("mobilenet_v1", 8, (3, 224, 224), 1000),
    Network("shufflenet_v1", 8, (3, 224, 224), 1000),
    Network("shufflenet_v2", 8, (3, 224, 224), 1000),
    Network("simple_convnet", 64, (1, 28, 28), 10),
    Network("fcn8s", 1, (3, 256, 256), 21),
]
PREDICTED = [
    LENET5_64._replace(batch=1),
    LENET5_64,
    RESNET20_128._replace(batch=1),
    RESNET20_128._replace(batch=64),
]
