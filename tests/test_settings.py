"""The process's switches: exact convolutions and fusion."""

import numpy as np
import pytest

import cyconv
from cyconv import functional as F
from tests import processes, references


@pytest.fixture(autouse=True)
def as_before():
    before = cyconv.is_exact(), cyconv.is_fusing()
    yield
    cyconv.exact(before[0])
    cyconv.fusion(before[1])


def arrays():
    rng = np.random.default_rng(0)
    x, weight = rng.standard_normal((2, 64, 24, 24), np.float32), rng.standard_normal((64, 64, 3, 3), np.float32)
    return x, weight, rng.standard_normal((2, 64, 22, 22), np.float32)


@pytest.mark.parametrize("algorithm", ["auto", "winograd"])
def test_exact_mode_never_uses_minimal_filtering(algorithm):
    x, weight, grad = arrays()
    x[0, 5, 3, 3] = np.nan  # minimal filtering spreads it over its tile of outputs
    fast = F.conv2d(x, weight, algorithm=algorithm)
    cyconv.exact()
    exact = F.conv2d(x, weight, algorithm=algorithm)
    touched = np.zeros((2, 22, 22), bool)
    touched[0, 1:4, 1:4] = True
    assert np.isnan(fast).any(axis=1).sum() > touched.sum()
    np.testing.assert_array_equal(np.isnan(exact).any(axis=1), touched)
    for found, expected in zip(
        F.conv2d_backward(grad, x, weight, algorithm=algorithm, needs=(True, False, False))[:1],
        F.conv2d_backward(grad, x, weight, algorithm="direct", needs=(True, False, False))[:1],
        strict=True,
    ):
        np.testing.assert_array_equal(found, expected)


def test_exact_mode_is_more_accurate():
    x, weight, _ = arrays()
    expected = references.conv2d(x.astype(np.float64), weight.astype(np.float64))

    def error():
        return np.sqrt(np.mean((F.conv2d(x, weight) - expected) ** 2) / np.mean(expected**2))

    fast = error()
    cyconv.exact()
    assert 2 * error() < fast < 3e-6


def test_switching_back():
    x, weight, _ = arrays()
    fast = F.conv2d(x, weight)
    cyconv.exact()
    assert cyconv.is_exact()
    cyconv.exact(False)
    np.testing.assert_array_equal(F.conv2d(x, weight), fast)


@pytest.mark.parametrize("switch", [cyconv.exact, cyconv.fusion])
def test_a_switch_is_on_or_off(switch):
    with pytest.raises(TypeError, match=f"{switch.__name__}: `on` must be True or False, got 'yes'"):
        switch("yes")


@pytest.mark.parametrize(("name", "question"), [("CYCONV_EXACT", "is_exact"), ("CYCONV_FUSION", "is_fusing")])
@pytest.mark.parametrize("value", ["0", "1"])
def test_environment(name, question, value):
    assert processes.output(f"import cyconv; print(cyconv.{question}())", **{name: value}).strip() == str(value == "1")


def test_environment_of_another_kind():
    assert "CYCONV_EXACT must be 0 or 1, got 'maybe'" in processes.run("import cyconv", CYCONV_EXACT="maybe")[2]
