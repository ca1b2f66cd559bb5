import pickle

import numpy as np
import pytest

from cyconv.averaging import AverageWeights, WeightAverage
from cyconv.layers import BatchNorm2d, Conv2d, Flatten, Linear, Sequential
from cyconv.network import Network
from cyconv.optimizers import SGD
from cyconv.training import Callback, Checkpoint

RNG = np.random.default_rng(0)
X, Y = RNG.standard_normal((12, 2, 4, 4)).astype(np.float32), RNG.integers(0, 3, 12)


def network(seed=0):
    layers = [Conv2d(2, 3, 3), BatchNorm2d(3), Flatten(), Linear(12, 3)]
    return Network(layers, input_shape=(2, 4, 4), seed=seed)


class Record(Callback):
    """Notes the weights after each step."""

    def __init__(self):
        self.weights = []

    def on_batch_end(self, run):
        if run.updated:
            self.weights.append({name: array.copy() for name, array in run.network.state_dict().items()})


def averaged(weights, decay):
    average = {name: array.astype(np.float64) for name, array in weights[0].items()}
    for each in weights[1:]:
        for name, array in each.items():
            is_count = array.dtype.kind == "i"
            average[name] = array if is_count else decay * average[name] + (1 - decay) * array
    return average


@pytest.mark.parametrize("accumulate", [1, 2])
def test_fit_ends_with_the_average_of_all_steps(accumulate):
    record, averaging, net = Record(), AverageWeights(0.75), network()
    options = {"callbacks": [record, averaging], "progress": False, "accumulate": accumulate}
    net.fit(X, Y, epochs=3, batch_size=4, optimizer=SGD(0.1), **options)
    assert len(record.weights) == (9 if accumulate == 1 else 6)
    for name, array in averaged(record.weights, 0.75).items():
        np.testing.assert_allclose(net.state_dict()[name], array, rtol=1e-5, atol=1e-6, err_msg=name)


def test_averages_of_a_resumed_run_are_those_of_the_whole(tmp_path):
    path, options = tmp_path / "run.safetensors", {"batch_size": 4, "progress": False, "seed": 0}
    whole, first, rest = (network() for _ in range(3))
    whole.fit(X, Y, epochs=4, callbacks=[AverageWeights(0.75)], **options)
    first.fit(X, Y, epochs=2, callbacks=[AverageWeights(0.75), Checkpoint(path)], **options)
    rest.fit(X, Y, epochs=4, callbacks=[AverageWeights(0.75), Checkpoint(path)], resume=path, **options)
    for name, array in whole.state_dict().items():
        np.testing.assert_array_equal(rest.state_dict()[name], array)


def test_by_itself_it_is_pytorchs():
    torch = pytest.importorskip("torch")
    swa = torch.optim.swa_utils
    net, average = Sequential([Linear(3, 2)]).initialize(0), WeightAverage(0.9)
    peer = torch.nn.Sequential(torch.nn.Linear(3, 2))
    their_average = swa.AveragedModel(peer, multi_avg_fn=swa.get_ema_multi_avg_fn(0.9))
    for _ in range(5):
        for parameter in net.parameters().values():
            parameter.data = RNG.standard_normal(parameter.shape)
        peer.load_state_dict({name: torch.tensor(array) for name, array in net.state_dict().items()})
        average.update(net)
        their_average.update_parameters(peer)
    for name, tensor in their_average.module.state_dict().items():
        np.testing.assert_allclose(average.arrays[name], tensor.numpy(), rtol=1e-6)


def test_averages_are_lent_to_a_network():
    net, average = network(), WeightAverage(0.5)
    net.predict(X)
    average.update(net)
    before = net.predict(X)
    for parameter in net.parameters().values():
        parameter.data[...] *= 2
    after = net.predict(X)
    with average.applied(net):
        np.testing.assert_array_equal(net.predict(X), before)
    np.testing.assert_array_equal(net.predict(X), after)


def test_what_does_not_fit_is_refused():
    average = WeightAverage()
    average.update(network())
    with pytest.raises(ValueError, match="load_state_dict: `state` does not fit this Linear"):
        average.update(Linear(2, 2))
    with pytest.raises(ValueError, match=r"AverageWeights: `decay` must be at least 0 and below 1, got 1.0"):
        AverageWeights(1)
    with pytest.raises(ValueError, match="AverageWeights: the state to load has 0 arrays instead of 1"):
        AverageWeights().load_state_dict({"count": 1})


def test_an_average_that_was_unpickled_into_read_only_memory_goes_on():
    trained, average, buffers = network(), WeightAverage(0.5), []
    average.update(trained)
    content = pickle.dumps(average, 5, buffer_callback=buffers.append)
    loaded = pickle.loads(content, buffers=[buffer.raw().tobytes() for buffer in buffers])
    for each in (average, loaded):
        each.update(trained)
    for name, array in average.arrays.items():
        np.testing.assert_array_equal(loaded.arrays[name], array)
