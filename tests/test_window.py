import numpy as np
import pytest

from cyconv import _window
from cyconv._window import Window, window
from tests import windows
from tests.windows import EVERY, IDS, SIZES

OP = "some_op"


@pytest.mark.parametrize(("axes", "arguments", "each"), EVERY, ids=IDS)
def test_windows_lie_where_the_user_says(axes, arguments, each):
    placed = window(OP, axes, **arguments).place(OP, SIZES[axes])
    assert [(a.kernel, a.stride, a.before, a.after, a.dilation) for a in placed] == each
    assert tuple(a.output for a in placed) == windows.output_size(SIZES[axes], each)
    assert tuple(a.size for a in placed) == SIZES[axes]


@pytest.mark.parametrize(
    ("axes", "padding", "sides"),
    [
        (1, 2, [(2, 2)]),
        (1, (2,), [(2, 2)]),
        (1, (1, 2), [(1, 2)]),
        (1, [[1, 2]], [(1, 2)]),
        (2, 0, [(0, 0), (0, 0)]),
        (2, [1, 2], [(1, 1), (2, 2)]),
        (2, np.array([1, 2]), [(1, 1), (2, 2)]),
        (2, ((1, 2), (3, 4)), [(1, 2), (3, 4)]),
        (2, (1, (3, 4)), [(1, 1), (3, 4)]),
        (2, "valid", [(0, 0), (0, 0)]),
        (2, "full", [(2, 2), (6, 6)]),
        (3, (1, 2, 3), [(1, 1), (2, 2), (3, 3)]),
        (3, np.int8(3), [(3, 3)] * 3),
    ],
)
def test_padding(axes, padding, sides):
    read = window(OP, axes, (3, 4, 5)[:axes], padding=padding, dilation=(1, 2, 1)[:axes])
    assert read.padding == tuple(sides)
    assert all(type(number) is int for side in read.padding for number in side)


def test_same_padding_waits_for_the_size():
    read = window(OP, 2, 3, 2, "same", (1, 2))
    assert read.padding is None
    rows, columns = read.place(OP, (8, 9))
    assert (rows.before, rows.after, columns.before, columns.after) == (0, 1, 2, 2)


@pytest.mark.parametrize(
    ("padding", "error", "message"),
    [
        ("wide", ValueError, '`padding` must be "same", "valid", "full", an int or a pair of ints, or .*, got .wide.'),
        (-1, ValueError, "`padding` must be at least 0, got -1"),
        ((0, 2**31), ValueError, "`padding` must be at most 2147483647, got 2147483648"),
        (((0, 0), (0, -3)), ValueError, "`padding` must be at least 0, got -3"),
        (((0, 0), (0, 1, 2)), ValueError, r"`padding` must be an int or a pair of ints, got \(0, 1, 2\)"),
        ((1, 2, 3), ValueError, r"`padding` must be an int or a pair of ints, or .* each axis, got \(1, 2, 3\)"),
        (1.5, TypeError, r"`padding` must be an integer, got 1\.5"),
        (None, TypeError, "`padding` must be an integer, got None"),
        (True, TypeError, "`padding` must be an integer, got True"),
        ((1, True), TypeError, "`padding` must be an integer, got True"),
        (("same", "same"), TypeError, "`padding` must be an integer, got 'same'"),
        (b"same", TypeError, "`padding` must be an integer, got b'same'"),
        ({}, TypeError, "`padding` must be an integer, got {}"),
    ],
)
def test_wrong_padding(padding, error, message):
    for _ in range(2):
        with pytest.raises(error, match=f"^{OP}: {message}$"):
            window(OP, 2, 3, padding=padding)


@pytest.mark.parametrize("number", [1, np.int8(1), np.array(1), (1, 1), [1, np.int64(1)]])
def test_what_is_equal_but_no_integer_is_refused_after_what_is_one(number):
    """Windows are remembered, and True and 1.0 equal 1."""
    assert window(OP, 2, number, number) == Window((1, 1), (1, 1), ((0, 0), (0, 0)), (1, 1))
    for wrong in (True, 1.0, (1, True), (1.0, 1), np.True_):
        with pytest.raises(TypeError, match=f"^{OP}: `stride` must be an integer, got (True|1.0|np.True_)"):
            window(OP, 2, 1, wrong)
    with pytest.raises(TypeError, match=f"^{OP}: `ceil_mode` must be True or False, got 1"):
        window(OP, 2, 1, 1, ceil_mode=1)


@pytest.mark.parametrize("ceil_mode", [False, True])
def test_pooled_outputs_by_their_defining_inequality(ceil_mode):
    rng = np.random.default_rng(0)
    for _ in range(300):
        size, kernel, stride, dilation = (int(n) for n in rng.integers(1, [12, 6, 5, 4]))
        span = dilation * (kernel - 1) + 1
        before, after = (int(n) for n in rng.integers(0, span // 2 + 1, 2))
        if size + before + after < span:
            continue
        each = (kernel, stride, before, after, dilation)
        expected = windows.starts(size, *each, ceil_mode)
        (placed,) = window(OP, 1, kernel, stride, (before, after), dilation, ceil_mode).place(OP, (size,))
        assert placed.output == len(expected), each


def test_a_transposed_window_gives_the_size_whose_convolution_it_undoes():
    rng = np.random.default_rng(0)
    for _ in range(300):
        size, kernel, stride, dilation = (int(n) for n in rng.integers(1, [12, 6, 5, 4]))
        span = dilation * (kernel - 1) + 1
        before, after = (int(n) for n in rng.integers(0, span, 2))
        extra = int(rng.integers(0, stride))
        try:
            (placed,) = window(OP, 1, kernel, stride, (before, after), dilation, output_padding=extra).place(
                OP, (size,)
            )
        except ValueError:
            assert (size - 1) * stride + span + extra <= before + after
            continue
        assert len(windows.starts(placed.size, kernel, stride, before, after, dilation)) == size == placed.output


def test_a_pooling_window_never_lies_in_the_padding_alone():
    with pytest.raises(ValueError, match=rf"^{OP}: `dilation` 8 steps over all of the input 4: some windows are empty"):
        _window.pooling_axes(OP, (4,), 2, 1, 4, 8, False)
    (placed,) = _window.pooling_axes(OP, (4,), 3, None, (1, 0), 1, False)
    assert (placed.stride, placed.before, placed.after) == (3, 1, 0)
    with pytest.raises(ValueError, match=rf"^{OP}: `padding` must be at most half of the window, 3, got \(0, 2\)"):
        _window.pooling_window(OP, 1, 3, None, (0, 2))
    with pytest.raises(ValueError, match=rf"^{OP}: `kernel_size` must have at most 2147483647 positions, got"):
        _window.pooling_window(OP, 3, 2**12, None, 0)


def test_adaptive_sizes():
    assert _window.adaptive_outputs(OP, 3, (None, np.int8(2), 3)) == (None, 2, 3)
    assert [axis.output for axis in _window.adaptive_axes(OP, (5, 7), None)] == [5, 7]
    with pytest.raises(ValueError, match=f"^{OP}: `output_size` must be an int or three ints, got "):
        _window.adaptive_outputs(OP, 3, (1, 2))
    with pytest.raises(TypeError, match=f"^{OP}: `output_size` must be an integer, got 1.5"):
        _window.adaptive_outputs(OP, 1, 1.5)


def test_plain_values():
    given = [np.int8(1), (np.int64(2), [np.array(3)]), "same", None]
    assert _window.plain(given) == (1, (2, (3,)), "same", None)
    assert type(_window.plain(np.int8(1))) is int
