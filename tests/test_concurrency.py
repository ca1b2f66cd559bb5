"""Several Python threads at once: kernels release the GIL, and nothing is shared that they could spoil."""

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import cyconv
from cyconv import functional as F
from cyconv import image


def compute(seed):
    """Return what a few operations give for arrays that depend on `seed`."""
    rng = np.random.default_rng(seed)
    C, size = 3 + 5 * (seed % 4), 12 + seed
    x, weight = rng.standard_normal((2, C, size, size)), rng.standard_normal((C + 1, C, 3, 3))
    output = F.conv2d(x, weight, padding=1)
    gradients = F.conv2d_backward(output, x, weight, padding=1)[:2]
    filters = rng.standard_normal((C, 1, 3, 3))
    features = F.conv2d(x, filters, groups=C).reshape(2, -1)
    blurred = image.gaussian(x[0], (1.0, 2.0))
    return output, *gradients, features, blurred, F.linear(features, rng.standard_normal((10, features.shape[1])))


@pytest.mark.parametrize("num_threads", [1, 3])
def test_eight_threads_compute_what_one_does(num_threads):
    with cyconv.num_threads(1):
        expected = [compute(seed) for seed in range(8)]
    together = threading.Barrier(8)

    def work(seed):
        together.wait(timeout=60)
        return [compute((seed + turn) % 8) for turn in range(8)]

    def begin():
        cyconv.num_threads(num_threads).__enter__()  # a thread's own number, as long as it lives

    with ThreadPoolExecutor(8, initializer=begin) as pool:
        for seed, results in enumerate(pool.map(work, range(8), timeout=120)):
            for turn, arrays in enumerate(results):
                for actual, wanted in zip(arrays, expected[(seed + turn) % 8], strict=True):
                    np.testing.assert_array_equal(actual, wanted)


def test_other_threads_run_during_a_long_convolution():
    x, weight = np.ones((1, 64, 192, 192), np.float32), np.ones((64, 64, 7, 7), np.float32)
    done = threading.Event()

    def convolve():
        with cyconv.num_threads(1):
            F.conv2d(x, weight, padding=3)
        done.set()

    worker = threading.Thread(target=convolve)
    turns = 0
    worker.start()
    while not done.wait(0.001):
        turns += 1
    worker.join()
    assert turns > 10  # 7e9 multiply-adds take a tenth of a second or more
