"""cyconv: convolutional networks trained and run fast on CPUs."""

from cyconv import memory
from cyconv.threads import get_num_threads, num_threads, set_num_threads

__version__ = "0.1.0"

__all__ = ["get_num_threads", "memory", "num_threads", "set_num_threads"]
