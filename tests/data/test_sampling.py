import numpy as np
import pytest

from cyconv.data import BalancedSampler, WeightedSampler, split
from cyconv.data.sampling import _apportioned

LABELS = np.random.default_rng(0).permutation(np.repeat([7, -2, 0, 3], [60, 25, 10, 5]))


@pytest.mark.parametrize("size", [None, 1, 7, 100, 1000])
@pytest.mark.parametrize("seed", range(3))
def test_every_class_is_taken_equally_often(size, seed):
    sampler = BalancedSampler(LABELS, size)
    rows = sampler(np.random.default_rng(seed))
    assert len(rows) == len(sampler) == (100 if size is None else size)
    for start in range(0, len(rows) - 3, 4):
        assert sorted(LABELS[rows[start : start + 4]]) == [-2, 0, 3, 7]
    classes, counts = np.unique(LABELS[rows], return_counts=True)
    assert np.ptp(counts) <= 1 or len(classes) < 4
    for label in classes:
        taken = np.bincount(rows[LABELS[rows] == label], minlength=100)[label == LABELS]
        assert np.ptp(taken) <= 1


def test_orders_are_random_and_new_each_time():
    sampler, rng = BalancedSampler(LABELS), np.random.default_rng(0)
    first, second = sampler(rng), sampler(rng)
    assert not np.array_equal(first, second)
    np.testing.assert_array_equal(first, sampler(np.random.default_rng(0)))
    orders = {tuple(LABELS[rows]) for rows in np.concatenate([first, second]).reshape(-1, 4)}
    assert len(orders) > 12  # of 24, in 50 draws
    rare = [tuple(first[LABELS[first] == 3][start : start + 5]) for start in range(0, 25, 5)]
    assert len(set(rare)) == 5  # a class that begins anew has another order


def test_weights_are_probabilities():
    weights = [0, 1, 3.5, 0.5]
    rows = WeightedSampler(weights, 20_000)(np.random.default_rng(0))
    shares = np.bincount(rows, minlength=4) / 20_000
    np.testing.assert_allclose(shares, np.array(weights) / 5, atol=0.02)
    assert shares[0] == 0
    assert len(WeightedSampler(weights)) == len(WeightedSampler(weights)(np.random.default_rng(0))) == 4


# Splits

N = 101
X = np.arange(N * 6, dtype=np.float32).reshape(N, 1, 2, 3)
Y = np.arange(N)


@pytest.mark.parametrize("fractions", [(0.8, 0.2), (0.7, 0.15, 0.15), [1.0], np.array([0.5, 0.5]), (1 / 3,) * 3])
def test_each_row_is_in_one_part(fractions):
    parts = split(X, Y, fractions, rng=0)
    np.testing.assert_array_equal(np.sort(np.concatenate([y for _, y in parts])), Y)
    for (x, y), fraction in zip(parts, fractions, strict=True):
        assert abs(len(y) - fraction * N) < 1
        np.testing.assert_array_equal(x, X[y])
        assert np.all(np.diff(y) > 0)
        assert not np.shares_memory(x, X)


def test_parts_are_random_and_the_seed_decides():
    (_, first), _ = split(X, Y, rng=0)
    np.testing.assert_array_equal(first, split(X, Y, rng=np.random.default_rng(0))[0][1])
    assert not np.array_equal(first, split(X, Y, rng=1)[0][1])
    assert 30 < np.sum(first < 50) < 50


@pytest.mark.parametrize("fractions", [(0.8, 0.2), (0.7, 0.15, 0.15), (0.34, 0.33, 0.33)])
@pytest.mark.parametrize("seed", range(3))
def test_stratified_parts_have_the_classes_in_proportion(fractions, seed):
    labels = np.random.default_rng(seed).integers(0, 12, 500) ** 2
    parts = split(np.arange(500), labels, fractions, stratify=True, rng=seed)
    np.testing.assert_array_equal(np.sort(np.concatenate([x for x, _ in parts])), np.arange(500))
    for (x, y), fraction in zip(parts, fractions, strict=True):
        np.testing.assert_array_equal(y, labels[x])
        assert abs(len(y) - 500 * fraction) < 2
        for label in np.unique(labels):
            assert abs(np.sum(y == label) - fraction * np.sum(labels == label)) < 1


def test_many_small_classes_do_not_all_round_the_same_way():
    """Of three rows each, 0.6 is the validation's share: rounding each by itself would give it 100 or none."""
    labels = np.repeat(np.arange(100), 3)
    _, (validation, _) = split(np.arange(300), labels, (0.8, 0.2), stratify=True, rng=0)
    assert abs(len(validation) - 60) <= 1


def test_whole_shares_are_exact():
    counts = _apportioned([10] * 7, np.array([0.7, 0.2, 0.1]))  # 10 * 0.7 is 7.000000000000001 or less
    assert counts.tolist() == [[7, 2, 1]] * 7


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: BalancedSampler([]),
            TypeError,
            "^BalancedSampler: `labels` must be integers, booleans or text, got float64",
        ),
        (lambda: BalancedSampler(Y[:0]), ValueError, "^BalancedSampler: `labels` is empty"),
        (
            lambda: BalancedSampler([[1]]),
            ValueError,
            r"^BalancedSampler: `labels` must be labels \(N,\), got shape \(1, 1\)",
        ),
        (lambda: BalancedSampler(Y, 0), ValueError, "^BalancedSampler: `size` must be at least 1, got 0"),
        (lambda: WeightedSampler("ab"), TypeError, r"^WeightedSampler: `weights` must be numbers \(N,\), got <U2"),
        (lambda: WeightedSampler([[1]]), TypeError, r"^WeightedSampler: .*, got int64 of shape \(1, 1\)"),
        (
            lambda: WeightedSampler([1, -1]),
            ValueError,
            "^WeightedSampler: `weights` must be finite, at least 0",
        ),
        (
            lambda: WeightedSampler([0, 0]),
            ValueError,
            "^WeightedSampler: `weights` must be finite, at least 0",
        ),
        (lambda: WeightedSampler([1, np.nan]), ValueError, "^WeightedSampler: `weights` must be finite"),
        (lambda: WeightedSampler([1, np.inf]), ValueError, "^WeightedSampler: `weights` must be finite"),
        (lambda: WeightedSampler([1], 1.5), TypeError, "^WeightedSampler: `size` must be an integer, got 1.5"),
        (
            lambda: split(X, Y[:-1]),
            ValueError,
            r"^split: `x` and `y` must have the same number of rows, got shapes \(101, 1, 2, 3\) and \(100,\)",
        ),
        (lambda: split(1, 2), ValueError, r"^split: `x` and `y` must have the same number of rows, got shapes \(\)"),
        (lambda: split(X, Y, (0.5, 0.4)), ValueError, r"^split: `fractions` must add up to 1, got \(0.5, 0.4\)"),
        (lambda: split(X, Y, (1.0, 0.0)), ValueError, "^split: `fractions` must be above 0 and at most 1, got 0"),
        (lambda: split(X, Y, 0.5), TypeError, "^split: `fractions` must be a sequence of numbers, got 0.5"),
        (lambda: split(X, Y, "ab"), TypeError, "^split: `fractions` must be a sequence of numbers, got 'ab'"),
        (lambda: split(X, Y, []), ValueError, r"^split: `fractions` must add up to 1, got \[\]"),
        (lambda: split(X[:2], Y[:2], (0.9, 0.1)), ValueError, "^split: `fractions` .* of 2 rows leave a part empty"),
        (lambda: split(X, X, stratify=True), TypeError, "^split: `y` must be integers, booleans or text, got float32"),
        (lambda: split(X, Y, stratify="y"), TypeError, "^split: `stratify` must be True or False, got 'y'"),
        (lambda: split(X, Y, rng="a"), TypeError, "^split: `rng` must be an integer, a numpy.random.Generator or None"),
    ],
)
def test_refuses(call, error, message):
    with pytest.raises(error, match=message):
        call()


@pytest.mark.parametrize(
    "sampler", [BalancedSampler([0, 0, 1]), WeightedSampler([1, 2, 3])], ids=["balanced", "weighted"]
)
def test_a_sampler_takes_a_generator_a_seed_or_none(sampler):
    np.testing.assert_array_equal(sampler(3), sampler(np.random.default_rng(3)))
    assert len(sampler()) == len(sampler(None)) == len(sampler)
    with pytest.raises(
        TypeError, match=rf"^{type(sampler).__name__}: `rng` must be an integer, a numpy.random.Generator"
    ):
        sampler("3")


@pytest.mark.parametrize("kind", [str, object, bytes, bool, "T"])
def test_labels_may_be_text(kind):
    numbers = np.arange(30) % 2
    names = np.array(["no", "yes"])[numbers]
    if kind == "T":
        labels = names.astype(np.dtypes.StringDType())
    else:
        labels = numbers.astype(bool) if kind is bool else names.astype(kind)
    x = np.arange(30)
    for (rows, part), (expected, _) in zip(
        split(x, labels, stratify=True, rng=3), split(x, numbers, stratify=True, rng=3), strict=True
    ):
        assert rows.tolist() == expected.tolist()
        assert part.tolist() == labels[rows].tolist()
    drawn = BalancedSampler(labels)(np.random.default_rng(0))
    assert drawn.tolist() == BalancedSampler(numbers)(np.random.default_rng(0)).tolist()


def test_labels_are_of_one_kind():
    with pytest.raises(TypeError, match=r"^split: `y` must be integers, booleans or text, got object"):
        split(np.arange(2), np.array(["a", 1], object), stratify=True)
