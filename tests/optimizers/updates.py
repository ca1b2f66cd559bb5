"""The optimizers' formulas in NumPy, their settings to be tested, and PyTorch's names for them."""

import numpy as np

from cyconv.optimizers import SGD, AdaBound, Adadelta, Adagrad, Adam, Adamax, AdamW, NAdam, RMSprop
from cyconv.parameter import Parameter

SHAPE = (4, 3, 2, 2)


def sgd(w, g, state, t, learning_rate, momentum=0.0, nesterov=False, weight_decay=0.0):
    d = g + weight_decay * w
    state["v"] = momentum * state.get("v", 0) + d
    return w - learning_rate * (d + momentum * state["v"] if nesterov else state["v"])


def adagrad(
    w, g, state, t, learning_rate, learning_rate_decay=0.0, epsilon=1e-10, weight_decay=0.0, initial_accumulator=0.0
):
    g = g + weight_decay * w
    state["s"] = state.get("s", initial_accumulator) + g**2
    return w - learning_rate / (1 + (t - 1) * learning_rate_decay) * g / (np.sqrt(state["s"]) + epsilon)


def adadelta(w, g, state, t, learning_rate=1.0, rho=0.9, epsilon=1e-6, weight_decay=0.0):
    g = g + weight_decay * w
    state["s"] = rho * state.get("s", 0) + (1 - rho) * g**2
    d = np.sqrt(state.get("u", 0) + epsilon) / np.sqrt(state["s"] + epsilon) * g
    state["u"] = rho * state.get("u", 0) + (1 - rho) * d**2
    return w - learning_rate * d


def rmsprop(w, g, state, t, learning_rate, alpha=0.99, epsilon=1e-8, weight_decay=0.0, momentum=0.0, centered=False):
    g = g + weight_decay * w
    state["s"] = alpha * state.get("s", 0) + (1 - alpha) * g**2
    state["a"] = alpha * state.get("a", 0) + (1 - alpha) * g
    root = np.sqrt(state["s"] - state["a"] ** 2 if centered else state["s"])
    state["b"] = momentum * state.get("b", 0) + g / (root + epsilon)
    return w - learning_rate * state["b"]


def moments(g, state, beta1, beta2):
    state["m"] = beta1 * state.get("m", 0) + (1 - beta1) * g
    state["v"] = beta2 * state.get("v", 0) + (1 - beta2) * g**2
    return state["m"], state["v"]


def adam(w, g, state, t, learning_rate, beta1=0.9, beta2=0.999, epsilon=1e-8, weight_decay=0.0, amsgrad=False):
    m, v = moments(g + weight_decay * w, state, beta1, beta2)
    if amsgrad:
        v = state["largest"] = np.maximum(state.get("largest", 0), v)
    return w - learning_rate * m / (1 - beta1**t) / (np.sqrt(v / (1 - beta2**t)) + epsilon)


def adamw(w, g, state, t, learning_rate, weight_decay=0.01, **keywords):
    return adam(w, g, state, t, learning_rate, **keywords) - learning_rate * weight_decay * w


def adamax(w, g, state, t, learning_rate=0.002, beta1=0.9, beta2=0.999, epsilon=1e-8, weight_decay=0.0):
    m, _ = moments(g + weight_decay * w, state, beta1, beta2)
    u = state["u"] = np.maximum(beta2 * state.get("u", 0), np.abs(g + weight_decay * w) + epsilon)
    return w - learning_rate / (1 - beta1**t) * m / u


def nadam(w, g, state, t, learning_rate, beta1=0.9, beta2=0.999, epsilon=1e-8, weight_decay=0.0, momentum_decay=0.004):
    g = g + weight_decay * w
    m, v = moments(g, state, beta1, beta2)
    mu = beta1 * (1 - 0.5 * 0.96 ** (np.arange(1, t + 2) * momentum_decay))  # mu_1 ... mu_(t+1)
    ahead = mu[t] / (1 - mu.prod()) * m + (1 - mu[t - 1]) / (1 - mu[:t].prod()) * g
    return w - learning_rate * ahead / (np.sqrt(v / (1 - beta2**t)) + epsilon)


def adabound(
    w, g, state, t, learning_rate, beta1=0.9, beta2=0.999, epsilon=1e-8, weight_decay=0.0,
    final_learning_rate=0.1, gamma=0.001,
):  # fmt: skip
    m, v = moments(g + weight_decay * w, state, beta1, beta2)
    rate = learning_rate * np.sqrt(1 - beta2**t) / (1 - beta1**t) / (np.sqrt(v) + epsilon)
    final = final_learning_rate
    return w - np.clip(rate, final * (1 - 1 / (gamma * t + 1)), final * (1 + 1 / (gamma * t))) * m


BETAS = {"beta1": 0.5, "beta2": 0.6, "epsilon": 0.1, "weight_decay": 0.3}


CASES = [
    (SGD, sgd, {"learning_rate": 0.1}),
    (SGD, sgd, {"learning_rate": 0.1, "weight_decay": 0.3}),
    (SGD, sgd, {"learning_rate": 0.1, "momentum": 0.9, "weight_decay": 0.3}),
    (SGD, sgd, {"learning_rate": 0.1, "momentum": 0.9, "nesterov": True}),
    (Adagrad, adagrad, {"learning_rate": 0.1}),
    (Adagrad, adagrad, {"learning_rate": 0.1, "learning_rate_decay": 0.5, "epsilon": 0.1, "weight_decay": 0.3}),
    (Adagrad, adagrad, {"learning_rate": 0.1, "initial_accumulator": 0.5}),
    (Adadelta, adadelta, {"learning_rate": 1.0}),
    (Adadelta, adadelta, {"learning_rate": 0.5, "rho": 0.6, "epsilon": 0.01, "weight_decay": 0.3}),
    (RMSprop, rmsprop, {"learning_rate": 0.1}),
    (RMSprop, rmsprop, {"learning_rate": 0.1, "alpha": 0.6, "epsilon": 0.1, "weight_decay": 0.3, "momentum": 0.9}),
    (RMSprop, rmsprop, {"learning_rate": 0.1, "alpha": 0.6, "centered": True}),
    (RMSprop, rmsprop, {"learning_rate": 0.1, "alpha": 0.6, "centered": True, "momentum": 0.5}),
    (Adam, adam, {"learning_rate": 0.1}),
    (Adam, adam, {"learning_rate": 0.1, **BETAS}),
    (Adam, adam, {"learning_rate": 0.1, "beta2": 0.6, "amsgrad": True}),
    (AdamW, adamw, {"learning_rate": 0.1}),
    (AdamW, adamw, {"learning_rate": 0.1, "weight_decay": 0.3, "beta2": 0.6, "amsgrad": True}),
    (Adamax, adamax, {"learning_rate": 0.1}),
    (Adamax, adamax, {"learning_rate": 0.1, **BETAS}),
    (NAdam, nadam, {"learning_rate": 0.1}),
    (NAdam, nadam, {"learning_rate": 0.1, "momentum_decay": 2.0, **BETAS}),
    (AdaBound, adabound, {"learning_rate": 0.1}),
    (AdaBound, adabound, {"learning_rate": 0.1, "final_learning_rate": 0.2, "gamma": 3.0, **BETAS}),
]


THEIRS = {
    "sgd": ("SGD", {}),
    "momentum": ("SGD", {"momentum": 0.9}),
    "nesterov": ("SGD", {"momentum": 0.9, "nesterov": True}),
    "adagrad": ("Adagrad", {}),
    "adadelta": ("Adadelta", {}),
    "rmsprop": ("RMSprop", {}),
    "adam": ("Adam", {}),
    "amsgrad": ("Adam", {"amsgrad": True}),
    "adamw": ("AdamW", {}),
    "adamax": ("Adamax", {}),
    "nadam": ("NAdam", {}),
}


RENAMED = {
    "learning_rate": "lr",
    "epsilon": "eps",
    "learning_rate_decay": "lr_decay",
    "initial_accumulator": "initial_accumulator_value",
}


def theirs(torch, kind, weights, arguments):
    """Return PyTorch's optimizer with our arguments."""
    betas = {"betas": tuple(arguments[f"beta{i}"] for i in (1, 2))} if "beta1" in arguments else {}
    renamed = {RENAMED.get(k, k): v for k, v in arguments.items() if not k.startswith("beta")}
    return getattr(torch.optim, kind)(weights, **renamed, **betas)


def steps(optimizer, parameter, count, seed=0):
    rng = np.random.default_rng(seed)
    for _ in range(count):
        parameter.grad = rng.standard_normal(SHAPE).astype(parameter.dtype)  # C order, unlike the weight
        optimizer.step({"w": parameter})


def trainable(**shapes):
    """Return parameters of ones with gradients of ones."""
    parameters = {name.replace("__", "."): Parameter(np.ones(shape)) for name, shape in shapes.items()}
    for parameter in parameters.values():
        parameter.grad = np.ones(parameter.shape)
    return parameters


def values(parameters):
    return {name: parameter.read().flat[0] for name, parameter in parameters.items()}
