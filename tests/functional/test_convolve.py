import numpy as np
import pytest
from scipy import signal

from cyconv import functional as F
from cyconv.gradient_check import check_gradients

rng = np.random.default_rng(0)
X, BIAS = rng.standard_normal((2, 2, 7, 9)), rng.standard_normal(3)


@pytest.mark.parametrize("kernel", [(3, 3), (2, 4), (5, 2), (1, 1)])
@pytest.mark.parametrize("mode", ["full", "same", "valid"])
def test_equals_scipy(mode, kernel):
    weight = rng.standard_normal((3, 2, *kernel))
    found = F.convolve2d(X, weight, BIAS, mode)
    for n in range(2):
        for o in range(3):
            expected = sum(signal.convolve2d(X[n, c], weight[o, c], mode) for c in range(2)) + BIAS[o]
            np.testing.assert_allclose(found[n, o], expected, atol=1e-12)


@pytest.mark.parametrize("mode", ["full", "same", "valid"])
def test_gradients(mode):
    weight = rng.standard_normal((3, 2, 3, 2))
    options = {"mode": mode, "stride": (2, 1), "dilation": (1, 2)}
    check_gradients(F.convolve2d, X, weight, BIAS, backward=F.convolve2d_backward, **options)


def test_wrong_arguments_are_named():
    with pytest.raises(ValueError, match="convolve2d: `mode` must be one of 'full', 'same', 'valid', got 'wide'"):
        F.convolve2d(X, np.ones((1, 2, 3, 3)), mode="wide")
