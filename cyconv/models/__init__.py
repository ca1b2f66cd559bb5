"""Networks of the literature, one page each."""

from cyconv.models.lenet import lenet5
from cyconv.models.simple_convnet import simple_convnet

__all__ = ["lenet5", "simple_convnet"]
