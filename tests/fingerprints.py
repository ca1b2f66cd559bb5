"""All that makes up the state of a network, to tell whether anything has changed."""

import pickle

import numpy as np


def fingerprint(network):
    """Return the state, to be compared: weights, gradients, buffers, counters, modes, and the generator's state."""
    parameters = network.parameters()
    return (
        {name: np.ascontiguousarray(array).tobytes() for name, array in network.state_dict().items()},
        {name: None if each.grad is None else each.grad.tobytes() for name, each in parameters.items()},
        {name: each.trainable for name, each in parameters.items()},
        network.random_state(),
        [(prefix, type(layer), layer.training, layer._remembered is None) for prefix, layer in network.walk()],
        pickle.dumps(getattr(network, "rng", None)),
    )
