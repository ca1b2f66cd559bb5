"""cyconv: convolutional networks trained and run fast on CPUs.

``cyconv.Network`` trains and predicts; ``cyconv.layers`` has its parts and ``cyconv.functional`` the operations
underneath; ``cyconv.models`` and ``cyconv.data`` have networks and data ready to use.
"""

# Parts are loaded when they are first used, in several threads at once perhaps. A module's lock is taken before its
# package's, but a package that loads its modules holds its own: two threads then wait for each other. So what needs a
# module of another package first imports that package as a whole, and locks are taken in one order.

from typing import TYPE_CHECKING, Any

from cyconv import _runtime  # noqa: F401  (first: it loads the OpenMP runtime)

from cyconv import _dispatch  # noqa: F401  isort: skip  (now: what cannot run here shall fail now)
from cyconv.settings import exact, fusion, is_exact, is_fusing
from cyconv.threads import get_num_threads, num_threads, set_num_threads

if TYPE_CHECKING:
    from cyconv import (
        analysis,
        averaging,
        boxes,
        data,
        diagnose,
        functional,
        gradient_check,
        image,
        initializers,
        layers,
        losses,
        memory,
        metrics,
        models,
        nas,
        optimizers,
        parameter,
        schedules,
        serialization,
        sklearn,
        torch_files,
        training,
        visualize,
    )
    from cyconv.network import Network

__version__ = "0.1.0"

__all__ = [
    "Network",
    "analysis",
    "averaging",
    "boxes",
    "data",
    "diagnose",
    "exact",
    "functional",
    "fusion",
    "get_num_threads",
    "gradient_check",
    "image",
    "initializers",
    "is_exact",
    "is_fusing",
    "layers",
    "losses",
    "memory",
    "metrics",
    "models",
    "nas",
    "num_threads",
    "optimizers",
    "parameter",
    "schedules",
    "serialization",
    "set_num_threads",
    "sklearn",
    "torch_files",
    "training",
    "visualize",
]


if not TYPE_CHECKING:  # whose readers take it for a promise that every name exists

    def __getattr__(name: str) -> Any:
        """Load a public name when it is first used: `import cyconv` itself takes little more than NumPy's own time."""
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from importlib import import_module

        value = import_module("cyconv.network").Network if name == "Network" else import_module(f"cyconv.{name}")
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
