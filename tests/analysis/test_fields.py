"""What a field says of itself, by hand. That fields are what changes: test_receptive_field.py."""

import numpy as np
import pytest

from cyconv import layers as L
from cyconv.analysis import receptive_field, see_through
from cyconv.analysis.fields import ReceptiveField


def field_of(*layers, shape=(1, 8, 8)):
    return receptive_field(L.Sequential(*layers), shape)


def steps(kernel, stride, padding, dilation=1):
    return L.Conv2d(1, 1, kernel, stride=stride, padding=padding, dilation=dilation)


@pytest.mark.parametrize(
    ("layers", "size", "jump", "start"),
    [
        # r = r + (k - 1) d j and j = j s, one layer after the other; the first start is -p j behind the one before.
        ([(3, 1, 1)], 3, 1, -1),
        ([(3, 2, 1), (3, 2, 1)], 3 + 2 * 2, 4, -1 - 2),
        ([(2, 2, 0), (3, 1, 1), (3, 1, 1)], 2 + 2 * 2 + 2 * 2, 2, -2 - 2),
        ([(3, 1, 2, 2)], 5, 1, -2),
        ([(1, 3, 0)], 1, 3, 0),
    ],
)
def test_sizes_jumps_and_starts(layers, size, jump, start):
    field = field_of(*(steps(*arguments) for arguments in layers), shape=(1, 32, 32))
    assert (field.size, field.jump, field.start) == ((size,) * 2, (float(jump),) * 2, (start,) * 2)
    assert str(field) == f"{size}x{size}"
    assert repr(field) == f"ReceptiveField(size={field.size}, jump={field.jump}, start={field.start})"


def test_regions_end_at_the_edges():
    """3x3 with padding 1, then 2x2 pooling: output i sees rows 2i - 1 to 2i + 2, of which there are 0 to 7."""
    field = field_of(steps(3, 1, 1), L.MaxPool2d(2))
    for row in range(4):
        for column in range(4):
            wanted = tuple(slice(max(0, 2 * i - 1), min(8, 2 * i + 3)) for i in (row, column))
            assert field.region((row, column)) == wanted
            assert field.region([np.int64(row), column]) == wanted


def test_an_output_that_sees_only_padding_has_an_empty_region():
    field = field_of(steps(1, 1, 2), shape=(1, 3, 3))
    assert field.region((0, 3)) == (slice(0, 0), slice(0, 0))
    assert field.region((2, 3)) == (slice(0, 1), slice(1, 2))


@pytest.mark.parametrize(
    ("position", "kind", "message"),
    [
        ((4, 0), ValueError, "region: `position` must be at most 3|region: `position` must be .*3, got 4"),
        ((-1, 0), ValueError, "region: `position` must be at least 0"),
        (1, ValueError, "region: `position` must have 2 numbers, got 1"),
        ((0, 1.5), TypeError, "region: `position` must be an integer"),
    ],
)
def test_positions_that_are_not_there_are_refused(position, kind, message):
    field = field_of(L.MaxPool2d(2))
    with pytest.raises(kind, match=message):
        field.region(position)


def test_layers_without_a_rule_are_not_guessed_at():
    class Roll(L.Layer):
        def output_shape(self, input_shape):
            return input_shape

    field = field_of(L.MaxPool2d(2))
    assert isinstance(field, ReceptiveField)
    assert see_through(Roll(), field, (1, 4, 4), lambda *arguments: field) is None


def test_an_added_branch_counts_as_the_wider_one():
    field = field_of(L.Residual(L.Conv2d(1, 1, 5, padding=2)))
    assert field.size == (5, 5)
    assert field.region((0, 7)) == (slice(0, 3), slice(5, 8))
