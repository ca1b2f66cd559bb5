"""Efficient neural architecture search by shared parameters: cells or whole networks that suit a data set.

H. Pham, M. Guan, B. Zoph, Q. Le, J. Dean, Efficient neural architecture search via parameter sharing, ICML 2018.
"""

import cyconv.data
import cyconv.layers
import cyconv.visualize  # noqa: F401  (whole, before its parts: see cyconv/__init__.py)
from cyconv.nas.architecture import (
    MACRO_OPERATIONS,
    MICRO_OPERATIONS,
    Architecture,
    CellNode,
    Decision,
    MacroArchitecture,
    MacroLayer,
    MacroSpace,
    MicroArchitecture,
    MicroSpace,
    Space,
    architecture_from,
)
from cyconv.nas.child import SharedWeights, build
from cyconv.nas.controller import Controller
from cyconv.nas.drawing import draw
from cyconv.nas.enas import Candidate, SearchResult, search

__all__ = [
    "MACRO_OPERATIONS",
    "MICRO_OPERATIONS",
    "Architecture",
    "Candidate",
    "CellNode",
    "Controller",
    "Decision",
    "MacroArchitecture",
    "MacroLayer",
    "MacroSpace",
    "MicroArchitecture",
    "MicroSpace",
    "SearchResult",
    "SharedWeights",
    "Space",
    "architecture_from",
    "build",
    "draw",
    "search",
]
