"""Loads the OpenMP runtime, with idle threads that give their core back soon.

GCC's runtime lets a thread that waits for its team spin some ten milliseconds, which starves everyone else where cores
are shared: on a machine with more work than cores LeNet-5 trained fifty times slower. It reads its settings once, when
it is loaded, so this module must be imported before any other compiled one. What the user has set stands.
"""

import os

# Some 0.1 ms. A step of LeNet-5 (batch 64, two threads on two cores) took 2.61 ms with 10000, 2.63 with 5000 and 2.86
# with 2000; two processes of two threads each did 88 steps/s with 20000, 205 with 5000 and 284 with 2000. That threads
# which fall asleep may wake up on one core is what `_cpu.spread` is for.
SPIN_COUNT = "5000"

_ours = "GOMP_SPINCOUNT" not in os.environ and "OMP_WAIT_POLICY" not in os.environ
if _ours:
    os.environ["GOMP_SPINCOUNT"] = SPIN_COUNT
try:
    from cyconv import _cpu  # noqa: F401
finally:
    if _ours:
        del os.environ["GOMP_SPINCOUNT"]  # not for child processes, which may use other libraries
