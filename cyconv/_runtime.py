"""Loads the OpenMP runtime, with idle threads that give their core back soon.

GCC's runtime lets a thread that waits for its team spin some ten milliseconds, which starves everyone else where cores
are shared: on a machine with more work than cores LeNet-5 trained fifty times slower. It reads its settings once, when
it is loaded, so this module must be imported before any other compiled one. What the user has set stands.
"""

import os

SPIN_COUNT = "2000"  # some 25 us; longer starves others: `threads` sees to it that they wake up on several cores

_ours = "GOMP_SPINCOUNT" not in os.environ and "OMP_WAIT_POLICY" not in os.environ
if _ours:
    os.environ["GOMP_SPINCOUNT"] = SPIN_COUNT
try:
    from cyconv import _cpu  # noqa: F401
finally:
    if _ours:
        del os.environ["GOMP_SPINCOUNT"]  # not for child processes, which may use other libraries
