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


# Kernels that follow one rule, in one scheme: state arrays, our call, and the rule in NumPy.
# Scalars are those of each call: the learning rate is 0.01, weight decay 0.1.


def adagrad(a, g, count, t):
    optimizer.adagrad(a[0], g, a[1], 0.01, 1e-3, 0.1, t)


def adagrad_rule(a, g, count, t):
    p, s = a
    g = g + 0.1 * p
    s += g**2
    p -= 0.01 * g / (np.sqrt(s) + 1e-3)


def adadelta(a, g, count, t):
    optimizer.adadelta(a[0], g, a[1], a[2], 0.01, 0.9, 1e-3, 0.1, t)


def adadelta_rule(a, g, count, t):
    p, s, u = a
    g = g + 0.1 * p
    s[:] = 0.9 * s + 0.1 * g**2
    d = np.sqrt((u + 1e-3) / (s + 1e-3)) * g
    u[:] = 0.9 * u + 0.1 * d**2
    p -= 0.01 * d


def rmsprop(centered, momentum):
    def call(a, g, count, t):
        average, velocity = a[2] if centered else None, a[3] if momentum else None
        optimizer.rmsprop(a[0], g, a[1], average, velocity, 0.01, 0.9, 1e-1, 0.1, momentum, t)

    return call


def rmsprop_rule(centered, momentum):
    def rule(a, g, count, t):
        p, s, mean, v = a
        g = g + 0.1 * p
        s[:] = 0.9 * s + 0.1 * g**2
        if centered:
            mean[:] = 0.9 * mean + 0.1 * g
        step = g / (np.sqrt(s - mean**2) + 1e-1)
        if momentum:
            step = v[:] = momentum * v + step
        p -= 0.01 * step

    return rule


def amsgrad(a, g, count, t):
    optimizer.adam(a[0], g, a[1], a[2], a[3], 0.01, 0.9, 0.5, 1e-3, 0.1, count, False, t)


def moments(a, g, beta2):
    g = g + 0.1 * a[0]
    a[1][:] = 0.9 * a[1] + 0.1 * g
    a[2][:] = beta2 * a[2] + (1 - beta2) * g**2
    return g


def amsgrad_rule(a, g, count, t):
    moments(a, g, 0.5)
    a[3][:] = np.maximum(a[3], a[2])
    a[0] -= 0.01 * a[1] / (1 - 0.9**count) / (np.sqrt(a[3] / (1 - 0.5**count)) + 1e-3)


def adamax(a, g, count, t):
    optimizer.adamax(a[0], g, a[1], a[2], 0.01, 0.9, 0.5, 1e-3, 0.1, count, t)


def adamax_rule(a, g, count, t):
    p, m, u = a
    g = g + 0.1 * p
    m[:] = 0.9 * m + 0.1 * g
    u[:] = np.maximum(0.5 * u, np.abs(g) + 1e-3)
    p -= 0.01 / (1 - 0.9**count) * m / u


def nadam(a, g, count, t):
    optimizer.nadam(a[0], g, a[1], a[2], 0.02, 0.03, 0.9, 0.5, 1e-3, 0.1, count, t)


def nadam_rule(a, g, count, t):
    g = moments(a, g, 0.5)
    a[0] -= (0.02 * g + 0.03 * a[1]) / (np.sqrt(a[2] / (1 - 0.5**count)) + 1e-3)


def adabound(a, g, count, t):
    optimizer.adabound(a[0], g, a[1], a[2], 0.01, 0.005, 0.02, 0.9, 0.5, 1e-3, 0.1, count, t)


def adabound_rule(a, g, count, t):
    moments(a, g, 0.5)
    rate = 0.01 * np.sqrt(1 - 0.5**count) / (1 - 0.9**count) / (np.sqrt(a[2]) + 1e-3)
    a[0] -= np.clip(rate, 0.005, 0.02) * a[1]


RULES = {
    "adagrad": (1, adagrad, adagrad_rule),
    "adadelta": (2, adadelta, adadelta_rule),
    **{
        f"rmsprop-{centered}-{momentum}": (3, rmsprop(centered, momentum), rmsprop_rule(centered, momentum))
        for centered in (False, True)
        for momentum in (0, 0.9)
    },
    "amsgrad": (3, amsgrad, amsgrad_rule),
    "adamax": (2, adamax, adamax_rule),
    "nadam": (2, nadam, nadam_rule),
    "adabound": (2, adabound, adabound_rule),
}


@TYPES
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", RULES)
def test_other_rules(name, size, dtype):
    states, kernel, rule = RULES[name]
    same(trajectory(kernel, size, dtype, states), trajectory(rule, size, np.float64, states), dtype)


@TYPES
@pytest.mark.parametrize("size", SIZES)
def test_squared_norm_and_average(size, dtype):
    rng = np.random.default_rng(0)
    x, start = (rng.standard_normal(size).astype(dtype) for _ in range(2))
    norms, averages = [], []
    for threads in (1, 2, 3):
        norms.append(optimizer.squared_norm(x, threads))
        averages.append(start.copy())
        optimizer.average(averages[-1], x, 0.9, threads)
    assert len(set(norms)) == 1
    assert norms[0] == pytest.approx(float((x.astype(np.float64) ** 2).sum()), rel=1e-13)
    same(averages, [0.9 * start.astype(np.float64) + 0.1 * x] * 3, dtype)


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
