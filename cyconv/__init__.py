"""cyconv: convolutional networks trained and run fast on CPUs.

``cyconv.Network`` trains and predicts; ``cyconv.layers`` has its parts and ``cyconv.functional`` the operations
underneath; ``cyconv.models`` and ``cyconv.data`` have networks and data ready to use.
"""

from cyconv import _runtime  # noqa: F401  (first: it loads the OpenMP runtime)

from cyconv import (  # isort: skip
    data,
    functional,
    gradient_check,
    initializers,
    layers,
    losses,
    memory,
    metrics,
    models,
    optimizers,
    schedules,
    training,
)
from cyconv.network import Network
from cyconv.threads import get_num_threads, num_threads, set_num_threads

__version__ = "0.1.0"

__all__ = [
    "Network",
    "data",
    "functional",
    "get_num_threads",
    "gradient_check",
    "initializers",
    "layers",
    "losses",
    "memory",
    "metrics",
    "models",
    "num_threads",
    "optimizers",
    "schedules",
    "set_num_threads",
    "training",
]
