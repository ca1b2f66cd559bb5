"""Checks of arguments: what passes, and that an error names the op, the argument, what came and what is needed."""

import numpy as np
import pytest

from cyconv import _validation as check
from tests.memory_formats import FORMATS

OP = "some_op"


# Arrays


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("memory_format", FORMATS)
def test_float_array_keeps_values_and_becomes_native(memory_format, dtype):
    x = np.arange(120, dtype=dtype).reshape(2, 3, 4, 5)
    given = FORMATS[memory_format](x)
    array = check.as_float_array(OP, "x", given, 4)
    np.testing.assert_array_equal(array, x)
    assert array.dtype == dtype
    assert array.dtype.isnative
    assert array.flags.aligned
    if given.dtype.isnative and given.flags.aligned:
        assert array is given


def test_float_array_of_lists():
    assert check.as_float_array(OP, "x", [[1.0, 2.0]], 2).dtype == np.float64


@pytest.mark.parametrize("convert", [check.as_array, check.as_float_array, check.as_int_array])
def test_what_is_no_plain_array(convert):
    with pytest.raises(TypeError, match=r"^some_op: `x` must be an array, got None$"):
        convert(OP, "x", None)
    with pytest.raises(TypeError, match=r"^some_op: `x` must have no mask, got a masked array; fill it with `\.filled"):
        convert(OP, "x", np.ma.masked_array([1.0, 2.0], [True, False]))
    with pytest.raises(ValueError, match=r"^some_op: `x` must be an array: .*inhomogeneous"):
        convert(OP, "x", [[1.0], [1.0, 2.0]])


@pytest.mark.parametrize("dtype", [int, bool, complex, np.float16, np.longdouble, np.uint8, object, "U3", "M8[s]"])
def test_float_array_of_another_kind(dtype):
    value = np.zeros(3, dtype)
    message = rf"^some_op: `x` must be float32 or float64, got {value.dtype}; cast it with `\.astype\(np\.float32\)`$"
    with pytest.raises(TypeError, match=message.replace("[", r"\[").replace("]", r"\]")):
        check.as_float_array(OP, "x", value)


@pytest.mark.parametrize(
    ("ndim", "message"),
    [
        (4, r"must have 4 dimensions \(N, C, H, W\), got shape \(2, 3\)"),
        (1, r"must have 1 dimensions, got shape \(2, 3\)"),
        ((3, 4), r"must have 3 or 4 dimensions, got shape \(2, 3\)"),
    ],
)
def test_float_array_of_another_rank(ndim, message):
    with pytest.raises(ValueError, match=f"^some_op: `x` {message}$"):
        check.as_float_array(OP, "x", np.ones((2, 3)), ndim)


@pytest.mark.parametrize("ndim", [2, (1, 2), None])
def test_float_array_of_a_wanted_rank(ndim):
    assert check.as_float_array(OP, "x", np.ones((2, 3)), ndim).shape == (2, 3)


@pytest.mark.parametrize("dtype", [np.int8, np.uint16, np.int64, ">i4"])
def test_int_array(dtype):
    array = check.as_int_array(OP, "target", np.array([1, 2], dtype), 1)
    np.testing.assert_array_equal(array, [1, 2])
    assert array.dtype == np.int64


@pytest.mark.parametrize("dtype", [float, bool, complex, object])
def test_int_array_of_another_kind(dtype):
    with pytest.raises(TypeError, match=f"^some_op: `target` must be integers, got {np.dtype(dtype)}$"):
        check.as_int_array(OP, "target", np.zeros(2, dtype))


def test_int_array_of_another_rank():
    with pytest.raises(ValueError, match=r"^some_op: `target` must have 1 dimension\(s\), got shape \(1, 2\)$"):
        check.as_int_array(OP, "target", [[1, 2]], 1)


def test_same_dtype():
    single, double = np.ones(1, np.float32), np.ones(1)
    check.check_same_dtype(OP, x=single, weight=single, bias=None)
    check.check_same_dtype(OP, x=None)
    message = (
        r"^some_op: all arrays must have the same dtype, got `x` float32, `bias` float64; cast one with `\.astype`$"
    )
    with pytest.raises(TypeError, match=message):
        check.check_same_dtype(OP, x=single, weight=None, bias=double)


def test_shape():
    check.check_shape(OP, "x", np.ones((2, 3)), (2, 3))
    with pytest.raises(ValueError, match=r"^some_op: `x` must have shape \(3, 2\) \(why\), got \(2, 3\)$"):
        check.check_shape(OP, "x", np.ones((2, 3)), (3, 2), " (why)")


# Integers


@pytest.mark.parametrize("value", [3, np.int64(3), np.uint8(3), np.array(3)])
def test_int(value):
    checked = check.as_int(OP, "count", value)
    assert checked == 3
    assert type(checked) is int


@pytest.mark.parametrize("value", [3.0, np.float64(3), "3", None, True, np.True_, [3], np.array([3.0]), 3 + 0j])
def test_int_of_another_kind(value):
    with pytest.raises(TypeError, match=r"^some_op: `count` must be an integer, got "):
        check.as_int(OP, "count", value)


@pytest.mark.parametrize(
    ("value", "bounds", "message"),
    [
        (0, (), "at least 1, got 0"),
        (-(2**70), (), f"at least 1, got {-(2**70)}"),
        (2**31, (), "at most 2147483647, got 2147483648"),
        (-1, (0,), "at least 0, got -1"),
        (11, (0, 10), "at most 10, got 11"),
    ],
)
def test_int_out_of_range(value, bounds, message):
    with pytest.raises(ValueError, match=f"^some_op: `count` must be {message}$"):
        check.as_int(OP, "count", value, *bounds)


@pytest.mark.parametrize("value", [2**31 - 1, 1])
def test_int_at_its_bounds(value):
    assert check.as_int(OP, "count", value) == value


@pytest.mark.parametrize(
    ("value", "pair"),
    [
        (2, (2, 2)),
        ((2, 3), (2, 3)),
        ([2, 3], (2, 3)),
        (np.array([2, 3]), (2, 3)),
        (np.int32(4), (4, 4)),
        (np.array(4), (4, 4)),
    ],
)
def test_pair(value, pair):
    assert check.as_pair(OP, "stride", value) == pair


@pytest.mark.parametrize("value", [(), (1,), (1, 2, 3), [[1, 2]], np.ones(3, int)])
def test_pair_of_another_length(value):
    with pytest.raises(ValueError, match=r"^some_op: `stride` must be an int or a pair of ints, got "):
        check.as_pair(OP, "stride", value)


@pytest.mark.parametrize("value", [(1, 2.0), "12", None, ((1, 2), (3, 4)), {1, 2}, np.array([1.0, 2.0])])
def test_pair_of_another_kind(value):
    with pytest.raises(TypeError, match=r"^some_op: `stride` must be an integer, got "):
        check.as_pair(OP, "stride", value)


def test_pair_out_of_range():
    with pytest.raises(ValueError, match=r"^some_op: `stride` must be at least 1, got 0$"):
        check.as_pair(OP, "stride", (1, 0))
    assert check.as_pair(OP, "padding", (1, 0), 0) == (1, 0)


# Numbers, choices, generators


@pytest.mark.parametrize("value", [1, 1.5, np.float32(1.5), np.array(0.5), -3])
def test_number(value):
    number = check.as_number(OP, "eps", value)
    assert number == value
    assert type(number) is float


@pytest.mark.parametrize("value", ["1.5", None, True, np.True_, [1.0, 2.0], 1j])
def test_number_of_another_kind(value):
    with pytest.raises(TypeError, match=r"^some_op: `eps` must be a number, got "):
        check.as_number(OP, "eps", value)


@pytest.mark.parametrize(
    ("value", "minimum", "maximum", "open_ends", "message"),
    [
        (float("nan"), -np.inf, np.inf, {}, "finite, got nan"),
        (float("inf"), -np.inf, np.inf, {}, "finite, got inf"),
        (float("nan"), 0, 1, {}, "at least 0 and at most 1, got nan"),
        (-0.5, 0, np.inf, {}, r"at least 0, got -0\.5"),
        (1.5, -np.inf, 1, {}, r"at most 1, got 1\.5"),
        (0, 0, np.inf, {"open_minimum": True}, r"above 0, got 0\.0"),
        (1, 0, 1, {"open_maximum": True}, r"at least 0 and below 1, got 1\.0"),
    ],
)
def test_number_out_of_range(value, minimum, maximum, open_ends, message):
    with pytest.raises(ValueError, match=f"^some_op: `eps` must be {message}$"):
        check.as_number(OP, "eps", value, minimum, maximum, **open_ends)


def test_number_at_its_bounds():
    assert check.as_number(OP, "p", 0, 0, 1) == 0
    assert check.as_number(OP, "p", 1, 0, 1) == 1


def test_choice():
    assert check.as_choice(OP, "mode", "a", ("a", "b")) == "a"
    for value in ("c", None, 1, ["a"]):
        with pytest.raises(ValueError, match=r"^some_op: `mode` must be one of 'a', 'b', got "):
            check.as_choice(OP, "mode", value, ("a", "b"))


def test_generator():
    generator = np.random.default_rng(3)
    assert check.as_generator(OP, generator) is generator
    assert check.as_generator(OP, 3).random() == np.random.default_rng(3).random()
    assert check.as_generator(OP, None).random() != check.as_generator(OP, None).random()


@pytest.mark.parametrize(("value", "error"), [("3", TypeError), (1.5, TypeError), (True, TypeError), (-1, ValueError)])
def test_wrong_generator(value, error):
    with pytest.raises(error, match=r"^some_op: `rng` must be "):
        check.as_generator(OP, value)


def test_bool():
    assert check.as_bool(OP, "flag", np.True_) is True
    for value in (1, 0, None, "yes", np.ones(2)):
        with pytest.raises(TypeError, match=r"^some_op: `flag` must be True or False, got "):
            check.as_bool(OP, "flag", value)


def test_an_integer_beyond_all_floats_is_out_of_range():
    with pytest.raises(ValueError, match=r"^some_op: `eps` must be finite, got inf$"):
        check.as_number(OP, "eps", 10**400)


@pytest.mark.parametrize("value", [["a"], np.array(["a", "b"]), None, 1])
def test_a_choice_is_a_string(value):
    with pytest.raises(ValueError, match=r"^some_op: `mode` must be one of 'a', 'b', got"):
        check.as_choice(OP, "mode", value, ("a", "b"))


def test_unsigned_integers_do_not_wrap():
    with pytest.raises(ValueError, match=r"^some_op: `target` must be below 2\*\*63, got 18446744073709551516$"):
        check.as_int_array(OP, "target", np.array([2**64 - 100], np.uint64))


# What a message repeats


class Wordy:
    def __repr__(self):
        return "wordy " * 10**5


@pytest.mark.parametrize(
    "value",
    [
        [0] * 10**6,
        tuple(range(10**6)),
        set(range(10**5)),
        {str(i): i for i in range(10**5)},
        "x" * 10**6,
        b"x" * 10**6,
        10**5000,
        -(10**5000),
        [[["y" * 1000] * 1000] * 1000] * 1000,
        np.zeros(10**6),
        [np.zeros(10**6)] * 100,
        {"state": np.zeros((1000, 1000))},
        Wordy(),
        range(10**9),
        np.full(100, "z" * 1000, object),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_long_argument_is_shortened(value):
    text = check.brief(value)
    assert 0 < len(text) <= check.MOST_CHARACTERS
    for call in (check.as_int, check.as_number, check.as_pair, check.as_bool, check.as_ints, check.as_float_dtype):
        with pytest.raises((TypeError, ValueError), match=r"^some_op: `x`") as caught:
            call(OP, "x", value)
        assert len(str(caught.value)) < 250
    with pytest.raises(ValueError, match=r"^some_op: `x` must be one of 'a', 'b', got ") as caught:
        check.as_choice(OP, "x", value, ("a", "b"))
    assert len(str(caught.value)) < 250


def test_a_short_argument_is_shown_as_it_is():
    for value in (1, -2.5, "same", (1, 2, 3), [1, [2, 3]], {"a": 1}, None, True, np.float32(1.5), 10**30, {1, 2}):
        assert check.brief(value) == repr(value)
    assert check.brief(np.zeros((2, 3), np.float32)) == "ndarray of shape (2, 3) and dtype float32"
    assert check.brief([np.zeros(2)]) == "[ndarray of shape (2,) and dtype float64]"


ARRAY_VALUED = [np.arange(6.0).reshape(2, 3), np.array(["same", "valid"]), np.array([1, 2]), np.zeros(0)]


@pytest.mark.parametrize("value", ARRAY_VALUED, ids=["floats", "texts", "integers", "nothing"])
def test_arrays_are_refused_by_name_where_one_value_is_wanted(value):
    calls = [
        lambda: check.as_int(OP, "x", value),
        lambda: check.as_number(OP, "x", value),
        lambda: check.as_choice(OP, "x", value, ("same", "valid")),
        lambda: check.as_bool(OP, "x", value),
        lambda: check.as_member(OP, "x", value, (1, 2)),
        lambda: check.as_needs(OP, value),
        lambda: check.as_fill_value(OP, "x", value, np.dtype(np.float32)),
        lambda: check.as_generator(OP, value, "x"),
        lambda: check.as_float_dtype(OP, "x", value),
    ]
    for call in calls:
        with pytest.raises((TypeError, ValueError), match=r"^some_op: `(x|needs)` must be "):
            call()


def test_members():
    for value in (2, 2.0, np.int8(2), np.float32(2)):
        found = check.as_member(OP, "x", value, (1, 2, 4))
        assert found == 2
        assert type(found) is int
    with pytest.raises(ValueError, match=r"^some_op: `x` must be 1, 2 or 4, got 3$"):
        check.as_member(OP, "x", 3, {1: "a", 2: "b", 4: "c"})
    with pytest.raises(ValueError, match=r"^some_op: `x` must be 1, 2 or 4, got True$"):
        check.as_member(OP, "x", True, (1, 2, 4))


def test_needs():
    assert check.as_needs(OP, [True, np.True_, False]) == (True, True, False)
    with pytest.raises(TypeError, match=r"^some_op: `needs` must be a tuple of three bools, got \(True, True\)$"):
        check.as_needs(OP, (True, True))
    for wrong in (1, 0, 2, None):
        with pytest.raises(TypeError, match=rf"^some_op: `needs` must be True or False, got {wrong}$"):
            check.as_needs(OP, (True, wrong, True))


def test_sequences_of_integers():
    assert check.as_ints(OP, "x", [1, np.int8(2)]) == check.as_ints(OP, "x", np.array([1, 2])) == (1, 2)
    with pytest.raises(TypeError, match=r"^some_op: `x` must be a sequence of integers, got 3$"):
        check.as_ints(OP, "x", 3)
    with pytest.raises(ValueError, match=r"^some_op: `x` must be at least 1, got 0$"):
        check.as_ints(OP, "x", (1, 0))
