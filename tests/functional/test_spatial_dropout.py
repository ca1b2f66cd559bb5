import numpy as np
import pytest

import cyconv
from cyconv import functional as F
from tests.memory_formats import FORMATS


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("fmt", FORMATS)
def test_drops_channels(fmt, dtype, small_work_threaded):
    x = np.random.default_rng(0).standard_normal((4, 50, 3, 5)).astype(dtype)
    mask = F.dropout(np.ones((4, 50)), 0.3, seed=7, offset=11)[:, :, None, None]
    for threads in (1, 2, 3):
        with cyconv.num_threads(threads):
            y = F.dropout2d(FORMATS[fmt](x), 0.3, seed=7, offset=11)
        np.testing.assert_allclose(y, x * mask, rtol=1e-6)
        assert y.dtype == dtype
    np.testing.assert_array_equal(F.dropout2d_backward(x, 0.3, seed=7, offset=11), y)
    assert 0.2 < (mask == 0).mean() < 0.4


def test_none_and_all():
    x = np.ones((2, 3, 2, 2))
    np.testing.assert_array_equal(F.dropout2d(x, 0.0, seed=0), x)
    np.testing.assert_array_equal(F.dropout2d(x, 1.0, seed=0), 0 * x)
    assert F.dropout2d(x[:0], seed=0).shape == (0, 3, 2, 2)


def test_wrong_arguments_are_named():
    with pytest.raises(ValueError, match=r"dropout2d: `x` must have 4 dimensions"):
        F.dropout2d(np.ones((2, 3)), seed=0)
    with pytest.raises(ValueError, match="dropout2d: `p` must be at least 0 and at most 1, got 2"):
        F.dropout2d(np.ones((2, 3, 1, 1)), 2, seed=0)
    with pytest.raises(ValueError, match="dropout2d: `seed` must be at least 0, got -1"):
        F.dropout2d(np.ones((2, 3, 1, 1)), seed=-1)
