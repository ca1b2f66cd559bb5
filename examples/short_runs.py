"""Train networks for large images for a few hundred steps on CIFAR-10, narrow or on small images, to see them learn.

    python examples/short_runs.py --root path/to/cifar                    # all of them, some ten minutes
    python examples/short_runs.py --root path/to/cifar resnet50 vgg16     # these

Prints for each the loss of the first and of the last twentieth of the steps (chance is log 10 = 2.30), the accuracy on
the test images, and the time of a step.
"""

import argparse
import time

import numpy as np

from cyconv import metrics
from cyconv.data import cifar10
from cyconv.functional import interpolate
from cyconv.losses import CrossEntropyLoss
from cyconv.models import registry
from cyconv.optimizers import SGD
from cyconv.training import train_step

# The network's function, its options here, and the height and width of its images.
NETWORKS = {
    "alexnet": ("alexnet", {"width_multiplier": 0.5, "hidden": 256}, 67),
    "vgg16": ("vgg16", {"width": 32, "batch_norm": True, "head": "linear"}, 32),
    "vgg19": ("vgg19", {"width": 32, "batch_norm": True, "head": "linear"}, 32),
    "googlenet": ("googlenet", {}, 64),
    "resnet18": ("resnet18", {"width": 32, "small_stem": True}, 32),
    "resnet34": ("resnet34", {"width": 32, "small_stem": True}, 32),
    "resnet50": ("resnet50", {"width": 32, "small_stem": True}, 32),
    "resnet101": ("resnet101", {"width": 16, "small_stem": True}, 32),
    "resnet152": ("resnet152", {"width": 16, "small_stem": True}, 32),
    "resnet_v2": ("resnet_v2_cifar", {"depth": 29}, 32),
    "densenet121": ("densenet121", {}, 64),
    "se_resnet50": ("se_resnet50", {"width": 32, "small_stem": True}, 32),
    "xception": ("xception", {"width_multiplier": 0.5, "middle": 2}, 64),
    "mobilenet_v1": ("mobilenet_v1", {"stem_stride": 1}, 32),
    "shufflenet_v1": ("shufflenet_v1", {"stem_stride": 1}, 32),
    "shufflenet_v2": ("shufflenet_v2", {"stem_stride": 1}, 32),
}


def prepared(images, size):
    """Return images as floats around zero, enlarged to the network's input."""
    x = (images.astype(np.float32) / 255 - 0.45) / 0.25
    return x if x.shape[2] == size else interpolate(x, size, mode="bilinear")


def main(arguments=None):
    """Train the networks; return each one's losses."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("networks", nargs="*", metavar="NETWORK", help=f"of {', '.join(NETWORKS)}; default: all")
    parser.add_argument("--root", required=True, help="folder of CIFAR-10's files")
    parser.add_argument("--steps", default=300, type=int, help="default: %(default)s")
    parser.add_argument("--batch-size", default=32, type=int, help="default: %(default)s")
    parser.add_argument("--learning-rate", default=0.02, type=float, help="default: %(default)s")
    parser.add_argument("--seed", default=0, type=int, help="default: %(default)s")
    options = parser.parse_args(arguments)
    unknown = set(options.networks) - set(NETWORKS)
    if unknown:
        parser.error(f"no such network: {', '.join(sorted(unknown))}")

    data, found = cifar10(options.root), {}
    heads = ("parameters", 12), ("input", 8), ("first loss", 12), ("last loss", 11), ("accuracy", 10), ("s a step", 10)
    print(f"{'network':16}" + "".join(f"{head:>{width}}" for head, width in heads))
    for name in options.networks or NETWORKS:
        function, chosen, size = NETWORKS[name]
        network = registry.build(function, (3, size, size), 10, chosen, seed=options.seed)
        rng, loss = np.random.default_rng(options.seed), CrossEntropyLoss()
        optimizer = SGD(options.learning_rate, momentum=0.9, weight_decay=5e-4)
        losses, start = [], time.perf_counter()
        for _ in range(options.steps):
            rows = rng.integers(0, len(data.train_x), options.batch_size)
            x, y = prepared(data.train_x[rows], size), data.train_y[rows]
            losses.append(train_step(network, x, y, loss, optimizer)[0])
        seconds = (time.perf_counter() - start) / options.steps
        share = metrics.accuracy(network.predict(prepared(data.test_x, size)), data.test_y)
        few = max(1, options.steps // 20)
        print(
            f"{name:16}{sum(weight.size for weight in network.parameters().values()):12,}{f'{size}x{size}':>8}"
            f"{np.mean(losses[:few]):12.3f}{np.mean(losses[-few:]):11.3f}{share:10.1%}{seconds:10.3f}",
            flush=True,
        )
        found[name] = losses
    return found


if __name__ == "__main__":
    main()
