"""Choose the fastest instruction set that this machine runs, once, and bind its kernels.

Everything above imports kernels by ``from cyconv._dispatch import conv2d`` and never sees which set it got.
"""

from __future__ import annotations

import importlib
import os
from importlib.util import find_spec

from cyconv import _cpu

KNOWN = ("baseline", "avx2", "avx512")
BUILT = [tag for tag in KNOWN if find_spec(f"cyconv._kernels.{tag}") is not None]
USABLE = [tag for tag in BUILT if tag in _cpu.usable_instruction_sets()]


def _choose() -> str:
    """Return the instruction set to use: CYCONV_ISA's, else the fastest usable one."""
    wanted = os.environ.get("CYCONV_ISA", "").strip()
    if not wanted:
        if not USABLE:
            raise ImportError(f"cyconv: no kernels for this CPU were built (built: {BUILT})")
        return USABLE[-1]
    if wanted not in USABLE:
        reason = "is not a known instruction set"
        if wanted in KNOWN:
            reason = "was not built" if wanted not in BUILT else "cannot run on this CPU"
        raise ImportError(f"cyconv: CYCONV_ISA={wanted!r} {reason}; usable here: {', '.join(USABLE)}")
    return wanted


ISA = _choose()


def _kernel(name: str):
    return importlib.import_module(f"cyconv._kernels.{ISA}.{name}")


activation = _kernel("activation")
avg_pool2d = _kernel("avg_pool2d")
channel_activation = _kernel("channel_activation")
conv2d = _kernel("conv2d")
conv2d_weight = _kernel("conv2d_weight")
elementwise = _kernel("elementwise")
filter2d = _kernel("filter2d")
gemm = _kernel("gemm")
group_normalization = _kernel("group_normalization")
grouped = _kernel("grouped")
grouped_weight = _kernel("grouped_weight")
im2col = _kernel("im2col")
images = _kernel("images")
lstm = _kernel("lstm")
max_pool2d = _kernel("max_pool2d")
normalization = _kernel("normalization")
optimizer = _kernel("optimizer")
planar = _kernel("planar")
resample = _kernel("resample")
response_normalization = _kernel("response_normalization")
smooth_activation = _kernel("smooth_activation")
softmax = _kernel("softmax")
winograd = _kernel("winograd")
