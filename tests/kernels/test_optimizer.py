import numpy as np
import pytest

from cyconv._dispatch import optimizer

SIZES = [0, 1, 37, 20_000]
TYPES = pytest.mark.parametrize("dtype", [np.float32, np.float64])
STEPS = 4


def trajectory(step, size, dtype, states):
    """Return parameter and states after some steps, checked to be the same bits for 1, 2 and 3 threads."""
    results = []
    for threads in (1, 2, 3):
        rng = np.random.default_rng(0)
        arrays = [rng.standard_normal(size).astype(dtype), *(np.zeros(size, dtype) for _ in range(states))]
        for count in range(1, STEPS + 1):
            gradient = rng.standard_normal(size).astype(dtype)
            step(arrays, gradient, count, threads)
        results.append(arrays)
    for other in results[1:]:
        for first, second in zip(results[0], other, strict=True):
            np.testing.assert_array_equal(first, second)
    return results[0]


def same(actual, expected, dtype):
    tolerance = 2e-6 if dtype == np.float32 else 1e-14
    for ours, theirs in zip(actual, expected, strict=True):
        assert ours.dtype == dtype
        np.testing.assert_allclose(ours, theirs, rtol=tolerance, atol=tolerance)


@TYPES
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("weight_decay", [0.0, 0.01])
@pytest.mark.parametrize(("momentum", "nesterov"), [(0.0, False), (0.9, False), (0.9, True)])
def test_sgd(momentum, nesterov, weight_decay, size, dtype):
    def kernel(arrays, gradient, _, threads):
        velocity = arrays[1] if momentum else None
        optimizer.sgd(arrays[0], gradient, velocity, 0.1, momentum, weight_decay, nesterov, threads)

    def reference(arrays, gradient, *_):
        p, v = arrays
        g = gradient + weight_decay * p
        v[:] = momentum * v + g if momentum else 0
        p -= 0.1 * (g + momentum * v if nesterov or not momentum else v)

    expected = trajectory(reference, size, np.float64, 1)
    same(trajectory(kernel, size, dtype, 1), expected, dtype)


@TYPES
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("weight_decay", [0.0, 0.01])
@pytest.mark.parametrize("decoupled", [False, True])
def test_adam(decoupled, weight_decay, size, dtype):
    lr, beta1, beta2, eps = 0.01, 0.9, 0.99, 1e-8

    def kernel(arrays, gradient, count, threads):
        optimizer.adam(
            arrays[0], gradient, *arrays[1:], None, lr, beta1, beta2, eps, weight_decay, count, decoupled, threads
        )

    def reference(arrays, gradient, count, _):
        p, m, v = arrays
        if decoupled:
            p *= 1 - lr * weight_decay
            g = gradient
        else:
            g = gradient + weight_decay * p
        m[:] = beta1 * m + (1 - beta1) * g
        v[:] = beta2 * v + (1 - beta2) * g**2
        p -= lr * (m / (1 - beta1**count)) / (np.sqrt(v / (1 - beta2**count)) + eps)

    expected = trajectory(reference, size, np.float64, 2)
    same(trajectory(kernel, size, dtype, 2), expected, dtype)


def torch_step(torch, choose):
    """Return a step of a PyTorch optimizer on the first array."""
    made = {}

    def step(arrays, gradient, *_):
        if id(arrays) not in made:
            tensor = torch.from_numpy(arrays[0]).requires_grad_()
            made[id(arrays)] = arrays, tensor, choose([tensor])
        _, tensor, peer = made[id(arrays)]
        tensor.grad = torch.from_numpy(gradient)
        peer.step()

    return step


def test_against_torch():
    torch = pytest.importorskip("torch")
    peers = torch.optim
    sgd = {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.01, "nesterov": True}
    adam = {"lr": 0.01, "betas": (0.9, 0.99), "weight_decay": 0.01}
    cases = [
        (1, lambda p: peers.SGD(p, **sgd), lambda a, g, _, t: optimizer.sgd(a[0], g, a[1], 0.1, 0.9, 0.01, True, t)),
        *(
            (
                2,
                lambda p, peer=peer: peer(p, **adam),
                lambda a, g, count, t, decoupled=decoupled: optimizer.adam(
                    a[0], g, a[1], a[2], None, 0.01, 0.9, 0.99, 1e-8, 0.01, count, decoupled, t
                ),
            )
            for peer, decoupled in ((peers.Adam, False), (peers.AdamW, True))
        ),
    ]
    for states, choose, kernel in cases:
        ours = trajectory(kernel, 1000, np.float64, states)[0]
        theirs = trajectory(torch_step(torch, choose), 1000, np.float64, 0)[0]
        np.testing.assert_allclose(ours, theirs, rtol=1e-12, atol=1e-14)
