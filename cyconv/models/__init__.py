"""Networks of the literature, one page each."""

import cyconv.layers  # noqa: F401  (whole, before its parts: see cyconv/__init__.py)
from cyconv.models.alexnet import alexnet
from cyconv.models.box_regressor import box_regressor
from cyconv.models.deconvnet import deconvnet
from cyconv.models.densenet import densenet, densenet121
from cyconv.models.fcn import fcn, fcn8s, fcn16s, fcn32s
from cyconv.models.googlenet import googlenet
from cyconv.models.lenet import lenet5
from cyconv.models.mobilenet import mobilenet_v1
from cyconv.models.resnet import resnet, resnet18, resnet34, resnet50, resnet101, resnet152
from cyconv.models.resnet_cifar import resnet20, resnet32, resnet44, resnet56, resnet110, resnet_cifar
from cyconv.models.resnet_v2 import resnet_v2, resnet_v2_cifar
from cyconv.models.senet import se_resnet, se_resnet50
from cyconv.models.shufflenet import shufflenet_v1, shufflenet_v2
from cyconv.models.simple_convnet import simple_convnet
from cyconv.models.torchvision import load_torchvision, torchvision_names
from cyconv.models.unet import unet
from cyconv.models.vgg import vgg, vgg11, vgg13, vgg16, vgg19
from cyconv.models.xception import xception

__all__ = [
    "alexnet",
    "box_regressor",
    "deconvnet",
    "densenet",
    "densenet121",
    "fcn",
    "fcn8s",
    "fcn16s",
    "fcn32s",
    "googlenet",
    "lenet5",
    "load_torchvision",
    "mobilenet_v1",
    "resnet",
    "resnet18",
    "resnet20",
    "resnet32",
    "resnet34",
    "resnet44",
    "resnet50",
    "resnet56",
    "resnet101",
    "resnet110",
    "resnet152",
    "resnet_cifar",
    "resnet_v2",
    "resnet_v2_cifar",
    "se_resnet",
    "se_resnet50",
    "shufflenet_v1",
    "shufflenet_v2",
    "simple_convnet",
    "torchvision_names",
    "unet",
    "vgg",
    "vgg11",
    "vgg13",
    "vgg16",
    "vgg19",
    "xception",
]
