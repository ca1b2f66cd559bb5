"""Loads the OpenMP runtime, with idle threads that give their core back soon.

GCC's runtime lets a thread that waits for its team spin some ten milliseconds, which starves everyone else where cores
are shared: on a machine with more work than cores LeNet-5 trained fifty times slower. It reads its settings once, when
it is loaded, so this module must be imported before any other compiled one. What the user has set stands.
"""

import os
import sys
import time
from _thread import get_ident

# Some 0.1 ms. A step of LeNet-5 (batch 64, two threads on two cores) took 2.61 ms with 10000, 2.63 with 5000 and 2.86
# with 2000; two processes of two threads each did 88 steps/s with 20000, 205 with 5000 and 284 with 2000. That threads
# which fall asleep may wake up on one core is what `_cpu.spread` is for.
SPIN_COUNT = "5000"
LONGEST_IMPORT = 10  # seconds that a fork waits for imports in other threads
BINDING = ("OMP_PROC_BIND", "OMP_PLACES", "GOMP_CPU_AFFINITY", "KMP_AFFINITY")  # variables that bind threads to cores


def _usable_cores() -> set[int]:
    """Return the cores this process may use, those aside to which an OpenMP runtime has bound the calling thread.

    Told to bind threads, a runtime binds the one that loads it: its affinity is then a single core, and that is all
    that a second runtime loaded by it would see. The first still knows all as its places. (The parent process, the
    control group and the affinities of other threads do not: who started this process under taskset means that.)
    """
    cores = os.sched_getaffinity(0)
    if not any(os.environ.get(name) for name in BINDING):
        return cores
    import ctypes
    import re

    with open("/proc/self/maps") as maps:
        paths = set(re.findall(r"/\S*/lib(?:gomp|omp|iomp)[^/\s]*$", maps.read(), re.MULTILINE))
    for path in paths:
        try:
            runtime = ctypes.CDLL(path)
            for place in range(runtime.omp_get_num_places()):
                numbers = (ctypes.c_int * runtime.omp_get_place_num_procs(place))()
                runtime.omp_get_place_proc_ids(place, numbers)
                cores |= set(numbers)
        except (OSError, AttributeError):  # another library, or too old to tell
            pass
    return cores


def _load() -> int:
    """Load the OpenMP runtime and return the number of cores that the process may use."""
    if not hasattr(os, "sched_getaffinity"):
        from cyconv import _cpu

        return os.cpu_count() or 1
    bound = os.sched_getaffinity(0)
    try:
        cores = _usable_cores()
        if cores != bound:
            os.sched_setaffinity(0, cores)  # lest the runtime puts all its threads on this one's core
    except OSError:
        cores = bound
    from cyconv import _cpu  # noqa: F401

    if cores != bound:
        os.sched_setaffinity(0, bound)
    return len(cores)


def _check_build() -> None:
    """Say what is wrong where the compiled modules are missing: a checkout, say, that has not been built."""
    from importlib.machinery import EXTENSION_SUFFIXES

    folder = os.path.dirname(__file__)
    missing = [
        name
        for name in ("_cpu", "_memory", "_replay", "_shared")
        if not any(os.path.exists(os.path.join(folder, name + suffix)) for suffix in EXTENSION_SUFFIXES)
    ]
    if missing:
        version = ".".join(map(str, sys.version_info[:2]))
        raise ImportError(
            f"cyconv: {folder} has no compiled modules for Python {version} ({', '.join(missing)}). In a source "
            "checkout build them first: `pip install --editable .`, or `python setup.py build_ext --inplace`; to use "
            "an installed cyconv, start Python in another folder"
        )


def _wait_for_imports() -> None:
    """Before a fork, let other threads finish what they import: the child would wait for the locks they hold for ever.

    The program's own modules do not count, one of which may be running for good.
    """
    locks = getattr(sys.modules.get("_frozen_importlib"), "_module_locks", {})
    roots = {*sys.stdlib_module_names, "cyconv", "numpy", "scipy", "tqdm", "safetensors"}
    end = time.monotonic() + LONGEST_IMPORT
    while time.monotonic() < end:
        held = {name: getattr(reference(), "owner", None) for name, reference in list(locks.items())}
        owners = {owner for name, owner in held.items() if owner and name.partition(".")[0] in roots}
        if not owners or get_ident() in held.values():
            return
        time.sleep(0.001)


_check_build()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_wait_for_imports)
_ours = "GOMP_SPINCOUNT" not in os.environ and "OMP_WAIT_POLICY" not in os.environ
if _ours:
    os.environ["GOMP_SPINCOUNT"] = SPIN_COUNT
try:
    CORES = _load()
finally:
    if _ours:
        del os.environ["GOMP_SPINCOUNT"]  # not for child processes, which may use other libraries
