"""Every function of arrays, with every argument in turn replaced by what is none: the error names the function.

Nothing but ValueError and TypeError, whose message begins with the name of the very function that was called, and
nothing that changes what it was given. What a function takes all the same it may take.
"""

import inspect

import numpy as np
import pytest

from cyconv import functional as F
from tests.operations import OPERATIONS

KEPT = np.random.default_rng(0)
STRANGE = [
    None,
    True,
    -1,
    0,
    2**70,
    1.5,
    float("nan"),
    "text",
    b"text",
    (),
    (1,),
    (1, 2, 3, 4, 5),
    (1, "a"),
    [[1], [2, 3]],
    {},
    {"a": 1},
    object(),
    np.int8(3),
    np.array(2),
    np.zeros(0),
    np.zeros((1, 1)),
    np.zeros((2, 4, 3)),
    np.zeros((2, 4, 5, 6)),
    np.zeros((3, 4, 5, 6)),
    np.zeros((2, 4, 5, 6), np.float32),
    np.zeros((0, 4, 5, 6)),
    np.zeros((2, 4, 4, 5, 3)),
    np.zeros((2, 4, 5), complex),
    np.zeros((2, 4, 5), object),
    np.zeros((2, 3, 4), int),
]
# Of these numbers it is another matter whether they are refused: they may ask for more memory than there is.
LARGE = {2**70}


def calls():
    """Yield the name of a function and arguments that it takes."""
    seen = set()
    for op in OPERATIONS:
        if not op.function or (op.function, *op.keywords) in seen:
            continue
        seen.add((op.function, *op.keywords))
        function, keywords = getattr(F, op.function), dict(op.keywords)
        arrays = [KEPT.standard_normal(shape) for shape in op.shapes]
        if op.function == "batch_norm":
            arrays, keywords = [arrays[0], np.zeros(4), np.ones(4), *arrays[1:]], keywords
        if op.function == "embedding":
            arrays, keywords = [keywords.pop("indices"), *arrays], {}
        bound = inspect.signature(function).bind(*arrays, **keywords)
        yield op.function, dict(bound.arguments)
        backward = getattr(F, f"{op.function}_backward", None)
        if backward is None:
            continue
        names = inspect.signature(backward).parameters
        output = function(*arrays, **keywords)
        given = {name: value for name, value in bound.arguments.items() if name in names}
        given |= {"grad_output": output} if "grad_output" in names else {}
        if op.function == "batch_norm":
            given |= {"mean": np.zeros(4), "var": np.ones(4)}
        if op.function == "lstm":
            given["grad_output"] = output[0]
        if op.function == "lstm_cell":
            given |= {"grad_h": output[0], "grad_c": output[1]}
        given |= {"output": output} if "output" in names else {}
        given |= {"y": output} if "y" in names else {}
        missing = [n for n, p in names.items() if p.default is p.empty and n not in given]
        given |= {name: arrays[0].shape for name in missing if name in ("input_shape", "shape")}
        given |= {name: len(arrays[-1]) for name in missing if name.startswith("num_")}
        yield f"{op.function}_backward", given


def others():
    """Yield the same of what has no row in the table: forms of another, or its adjoint."""
    image, window = KEPT.standard_normal((2, 4, 5, 6)), {"kernel_size": 2, "stride": 1, "padding": 0, "dilation": 1}
    yield "unfold", {"x": image, **window}
    yield "fold", {"x": F.unfold(image, 2), "output_size": (5, 6), **window}
    for axes in (1, 2, 3):
        x = KEPT.standard_normal((2, 4, 6, 5, 4)[: axes + 2])
        output, winners = getattr(F, f"max_pool{axes}d_with_winners")(x, 2)
        yield f"max_pool{axes}d_with_winners", {"x": x, "kernel_size": 2}
        yield (
            f"max_pool{axes}d_backward",
            {"grad_output": output, "x": None, "kernel_size": 2, "winners": winners, "input_shape": x.shape},
        )
    yield "batch_norm_statistics", {"x": image}
    yield "batch_norm_with_statistics", {"x": image, "weight": np.ones(4)}
    yield "batch_norm_relu", {"x": image, "mean": np.zeros(4), "var": np.ones(4), "residual": image}


CALLS = [*calls(), *others()]
EVERY = [
    (name, given, argument) for name, given in CALLS for argument in inspect.signature(getattr(F, name)).parameters
]


@pytest.mark.parametrize(("name", "given"), CALLS, ids=[name for name, _ in CALLS])
def test_the_calls_are_taken(name, given):
    getattr(F, name)(**given)


@pytest.mark.parametrize(("name", "given", "argument"), EVERY, ids=[f"{name}-{arg}" for name, _, arg in EVERY])
def test_errors_name_the_function(name, given, argument):
    for value in STRANGE:
        if isinstance(value, int) and value in LARGE and argument in ("padding", "size"):
            continue
        said = error_of(name, {**given, argument: value})
        assert said is None or said.startswith(f"{name}: "), f"{argument}={value!r}: {said}"
        assert said is None or len(said) < 400, f"{argument}={value!r}: {len(said)} characters"


def error_of(name, arguments):
    """Return what a call says of its arguments, None if it takes them; any other kind of error passes."""
    try:
        with np.errstate(all="ignore"):
            getattr(F, name)(**arguments)
    except (ValueError, TypeError) as error:
        return str(error)
    return None
