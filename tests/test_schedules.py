import numpy as np

from cyconv.layers import Linear
from cyconv.network import Network
from cyconv.optimizers import SGD
from cyconv.schedules import LinearDecay
from cyconv.training import Callback


def test_linear_decay_falls_from_the_optimizers_rate_and_gives_it_back():
    rates = []

    class Watch(Callback):
        def on_batch_end(self, run):
            rates.append(run.optimizer.learning_rate)

    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((8, 4)).astype(np.float32), rng.integers(0, 3, 8)
    network, optimizer = Network([Linear(4, 3)], input_shape=(4,), seed=0), SGD(0.1)
    callbacks = [LinearDecay(), Watch()]
    network.fit(x, y, epochs=4, batch_size=8, optimizer=optimizer, callbacks=callbacks, progress=False)
    np.testing.assert_allclose(rates, [0.1, 0.075, 0.05, 0.025])
    assert optimizer.learning_rate == 0.1
