import numpy as np
import pytest

from cyconv._boundary import BOUNDARIES, OUTSIDE, sources


@pytest.mark.parametrize(
    ("boundary", "row"),
    [
        ("constant", "......|abcd|......"),
        ("reflect", "cddcba|abcd|dcbaab"),
        ("mirror", "abcdcb|abcd|cbabcd"),
        ("nearest", "aaaaaa|abcd|dddddd"),
        ("wrap", "cdabcd|abcd|abcdab"),
    ],
)
def test_rows_go_on_as_scipys_manual_draws_them(boundary, row):
    expected = ["abcd".find(letter) for letter in row.replace("|", "")]
    assert sources(boundary, 4, 6, 16).tolist() == expected


@pytest.mark.parametrize("size", [1, 2, 5])
@pytest.mark.parametrize("boundary", BOUNDARIES)
def test_any_distance_from_any_size_has_a_source(boundary, size):
    found = sources(boundary, size, 23, size + 40)
    assert found.shape == (size + 40,)
    assert found[23 : 23 + size].tolist() == list(range(size))
    outside = np.delete(found, np.arange(23, 23 + size))
    if boundary == "constant":
        assert (outside == OUTSIDE).all()
    else:
        assert ((outside >= 0) & (outside < size)).all()


def test_numpy_continues_in_the_same_way():
    row = np.arange(7)
    names = {"reflect": "symmetric", "mirror": "reflect", "nearest": "edge", "wrap": "wrap"}
    for boundary, name in names.items():
        np.testing.assert_array_equal(row[sources(boundary, 7, 20, 40)], np.pad(row, (20, 13), name))
