"""The same network in PyTorch: the same names, outputs and training steps."""

import numpy as np
import pytest

from cyconv.layers import (
    AvgPool2d,
    BatchNorm2d,
    Conv2d,
    ConvTranspose2d,
    Flatten,
    LeakyReLU,
    Linear,
    MaxPool2d,
    ReLU,
    Sequential,
)
from cyconv.losses import CrossEntropyLoss
from cyconv.optimizers import SGD, Adam, AdamW
from cyconv.training import train_step

torch = pytest.importorskip("torch")


def twins():
    """Return one network in both libraries, with PyTorch's initial weights."""
    nn = torch.nn
    torch.manual_seed(0)
    theirs = nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.MaxPool2d(3, stride=2, padding=1),
        nn.Conv2d(8, 8, (3, 1), groups=2, dilation=2, padding=(2, 0)),
        nn.LeakyReLU(0.1),
        nn.ConvTranspose2d(8, 4, 2, stride=2),
        nn.AvgPool2d(2),
        nn.Flatten(),
        nn.Linear(64, 5),
    ).double()
    ours = Sequential(
        Conv2d(3, 8, 3, stride=2, padding=1, bias=False),
        BatchNorm2d(8),
        ReLU(),
        MaxPool2d(3, stride=2, padding=1),
        Conv2d(8, 8, (3, 1), groups=2, dilation=2, padding=(2, 0)),
        LeakyReLU(0.1),
        ConvTranspose2d(8, 4, 2, stride=2),
        AvgPool2d(2),
        Flatten(),
        Linear(64, 5),
    ).astype(np.float64)
    ours.load_state_dict({name: tensor.numpy() for name, tensor in theirs.state_dict().items()})
    return ours, theirs


OPTIMIZERS = {
    "sgd": (SGD(0.1), lambda p: torch.optim.SGD(p, 0.1)),
    "nesterov": (
        SGD(0.1, momentum=0.9, nesterov=True, weight_decay=0.01),
        lambda p: torch.optim.SGD(p, 0.1, momentum=0.9, nesterov=True, weight_decay=0.01),
    ),
    "adam": (Adam(0.01, weight_decay=0.01), lambda p: torch.optim.Adam(p, 0.01, weight_decay=0.01)),
    "adamw": (AdamW(0.01), lambda p: torch.optim.AdamW(p, 0.01)),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_five_training_steps(name):
    ours, theirs = twins()
    optimizer, make_theirs = OPTIMIZERS[name]
    their_optimizer = make_theirs(theirs.parameters())
    rng = np.random.default_rng(0)
    for _ in range(5):
        x, y = rng.standard_normal((6, 3, 16, 16)), rng.integers(5, size=6)
        value, _ = train_step(ours, x, y, CrossEntropyLoss(label_smoothing=0.1), optimizer)
        loss = torch.nn.functional.cross_entropy(theirs(torch.tensor(x)), torch.tensor(y), label_smoothing=0.1)
        their_optimizer.zero_grad()
        loss.backward()
        their_optimizer.step()
        assert value == pytest.approx(loss.item(), rel=1e-9)
    for key, tensor in theirs.state_dict().items():
        np.testing.assert_allclose(ours.state_dict()[key], tensor.numpy(), rtol=1e-7, atol=1e-9, err_msg=key)
    x = rng.standard_normal((6, 3, 16, 16))
    with torch.no_grad():
        expected = theirs.eval()(torch.tensor(x)).numpy()
    np.testing.assert_allclose(ours.eval()(x), expected, rtol=1e-7, atol=1e-9)
