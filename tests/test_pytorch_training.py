"""A hundred steps of training follow PyTorch's losses, with every optimizer that it has, from the same weights."""

import numpy as np
import pytest

from cyconv.data import digits
from cyconv.layers import Conv2d, Flatten, Linear, MaxPool2d, ReLU, Sequential
from cyconv.losses import CrossEntropyLoss
from cyconv.optimizers import OPTIMIZERS, as_optimizer
from cyconv.training import train_step
from tests.optimizers.updates import THEIRS, theirs

STEPS, BATCH = 100, 32
RATES = {
    "sgd": 0.2,
    "momentum": 0.05,
    "nesterov": 0.05,
    "adagrad": 0.02,
    "adadelta": 1.0,
    "rmsprop": 0.002,
}


def twins(torch):
    """Return one network in both libraries, with PyTorch's initial weights."""
    nn = torch.nn
    torch.manual_seed(0)
    peer = nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(8, 16, 3), nn.ReLU(), nn.Flatten(),
        nn.Linear(64, 10),
    )  # fmt: skip
    ours = Sequential(
        [Conv2d(1, 8, 3, padding=1), ReLU(), MaxPool2d(2), Conv2d(8, 16, 3), ReLU(), Flatten(), Linear(64, 10)]
    )
    ours.load_state_dict({name: tensor.numpy() for name, tensor in peer.state_dict().items()})
    return ours, peer


@pytest.mark.parametrize("name", [name for name in OPTIMIZERS if name in THEIRS])
def test_losses_follow_pytorchs(name):
    torch = pytest.importorskip("torch")
    ours, peer = twins(torch)
    optimizer = as_optimizer("fit", name)
    optimizer.learning_rate = RATES.get(name, 0.005)
    their_optimizer = theirs(torch, THEIRS[name][0], peer.parameters(), optimizer.hyper_parameters)
    data, loss, losses = digits(), CrossEntropyLoss(), []
    rng = np.random.default_rng(0)
    for _ in range(STEPS):
        rows = rng.integers(len(data.train_x), size=BATCH)
        x, y = data.train_x[rows].astype(np.float32) / 255, data.train_y[rows]
        value, _ = train_step(ours, x.reshape(BATCH, 1, 8, 8), y, loss, optimizer)
        expected = torch.nn.functional.cross_entropy(peer(torch.tensor(x).reshape(BATCH, 1, 8, 8)), torch.tensor(y))
        their_optimizer.zero_grad()
        expected.backward()
        their_optimizer.step()
        losses.append((value, expected.item()))
    ours_, theirs_ = np.transpose(losses)
    np.testing.assert_allclose(ours_, theirs_, rtol=1e-4)
    assert ours_[-10:].mean() < 0.8 * ours_[0], "nothing was learned"
