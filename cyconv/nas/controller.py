"""The controller: a recurrent policy that makes decisions one after the other, and learns which are rewarded."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cyconv import functional as F
from cyconv._validation import as_array, as_generator, as_int, as_int_array, as_number, brief
from cyconv.layers import LSTM, Embedding, Layer, Linear
from cyconv.layers.base import Shape
from cyconv.nas.architecture import Decision
from cyconv.optimizers import Adam
from cyconv.parameter import Parameter

INITIAL_BOUND = 0.1  # weights start uniformly within it, so that all choices are about as likely


class Policy(Layer):
    """Distributions over choices, each given the choices before it: embedding, LSTM, linear.

    Parameters
    ----------
    decisions : sequence of Decision
        What is chosen among, in order.
    hidden_size : int, default 100
        Numbers of the LSTM's state, and of the vector that stands for a choice.
    temperature : float, default 5
        Divides the scores; above 0.
    tanh_constant : float, default 2.5
        Bounds them; above 0.
    rng : numpy.random.Generator, int or None
        Source of the initial weights, uniform in [-0.1, 0.1].

    Notes
    -----
    With h the LSTM's state after the vectors of all choices before, the scores of a decision are ``tanh_constant *
    tanh((W h + b) / temperature)``; only the rows of its own kind count, the others' scores are minus infinity.
    """

    def __init__(
        self,
        decisions: Sequence[Decision],
        hidden_size: int = 100,
        temperature: float = 5.0,
        tanh_constant: float = 2.5,
        rng: np.random.Generator | int | None = None,
    ) -> None:
        if not isinstance(decisions, (tuple, list)) or not all(isinstance(each, Decision) for each in decisions):
            raise TypeError(f"Controller: `decisions` must be a sequence of Decision, got {brief(decisions)}")
        if not decisions:
            raise ValueError("Controller: `decisions` must not be empty")
        self.decisions = tuple(decisions)
        self.temperature = as_number("Controller", "temperature", temperature, 0, open_minimum=True)
        self.tanh_constant = as_number("Controller", "tanh_constant", tanh_constant, 0, open_minimum=True)
        first, rows = 0, dict[str, int]()
        for kind in dict.fromkeys(each.kind for each in decisions):
            rows[kind] = first
            first += max(as_int("Controller", "choices", each.choices) for each in decisions if each.kind == kind)
        for each in decisions:
            if each.prior is not None and not _is_distribution(each.prior, each.choices):
                raise ValueError(
                    f"Controller: `prior` must be {each.choices} probabilities that sum to 1, got {each.prior}"
                )
        self._first = np.array([rows[each.kind] for each in decisions])  # row of each decision's first choice
        self._start = first  # the vector that stands for no choice
        hidden_size = as_int("Controller", "hidden_size", hidden_size)
        self.embedding = Embedding(first + 1, hidden_size)
        self.lstm = LSTM(hidden_size, hidden_size)
        self.head = Linear(hidden_size, first)
        choices = np.array([each.choices for each in decisions])
        behind = np.arange(first) - self._first[:, np.newaxis]
        self.open = (behind >= 0) & (behind < choices[:, np.newaxis])  # (T, rows): what may be chosen
        generator = as_generator("Controller", rng)
        for parameter in self.parameters().values():
            parameter.data = generator.uniform(-INITIAL_BOUND, INITIAL_BOUND, parameter.shape)

    def output_shape(self, input_shape: Shape) -> Shape:
        """Return (T, rows)."""
        return *input_shape, self.head.out_features

    def rows(self, choices: NDArray) -> NDArray[np.int64]:
        """Return the rows that choices, numbered from 0 in each decision, stand for."""
        return choices + self._first

    def sample(self, count: int, rng: np.random.Generator) -> NDArray[np.int64]:
        """Return so many series of choices, (count, T), drawn one after the other."""
        T, H = len(self.decisions), self.lstm.hidden_size
        choices = np.empty((count, T), np.int64)
        draws = rng.random((count, T))
        weight, bias = self.head.weight.read(), cast(Parameter, self.head.bias).read()
        h = c = np.zeros((count, H), weight.dtype)
        rows = np.full(count, self._start)
        for t, decision in enumerate(self.decisions):
            h, c = self.lstm.step(F.embedding(rows, self.embedding.weight.read()), h, c)
            own = slice(self._first[t], self._first[t] + decision.choices)
            scores = self._bounded(F.linear(h, weight[own], bias[own]))
            cumulated = F.softmax(scores.astype(np.float64)).cumsum(axis=1)
            choices[:, t] = (draws[:, t, np.newaxis] >= cumulated[:, :-1]).sum(axis=1)
            rows = choices[:, t] + self._first[t]
        return choices

    def _bounded(self, scores: NDArray) -> NDArray:
        return self.tanh_constant * np.tanh(scores / self.temperature)

    def forward(self, x: NDArray) -> NDArray:
        """Return the scores of all decisions, (N, T, rows), given the rows chosen, (N, T)."""
        before = np.full(x.shape, self._start)
        before[:, 1:] = x[:, :-1]
        scores = self._bounded(self.head.forward(self.lstm.forward(self.embedding.forward(before))))
        self.remember(scores)
        return np.where(self.open, scores, -np.inf).astype(scores.dtype)

    def backward(self, grad_output: NDArray, needs_grad_input: bool = True) -> NDArray | None:
        """Add to the parameters' gradients; choices have none."""
        (scores,) = self.recall()
        slope = (self.tanh_constant - scores * scores / self.tanh_constant) / self.temperature
        gradient = np.where(self.open, grad_output * slope, 0).astype(scores.dtype)
        hidden = cast(NDArray, self.lstm.backward(cast(NDArray, self.head.backward(gradient))))
        return self.embedding.backward(hidden)


class Controller:
    """Samples series of decisions and learns from rewards by REINFORCE (Williams 1992), with Adam.

    Parameters
    ----------
    decisions : sequence of Decision
        What there is to decide, in order: a space's `decisions`.
    hidden_size : int, default 100
        Units of the LSTM.
    learning_rate : float, default 0.001
        Adam's.
    baseline_decay : float, default 0.95
        How slowly the baseline follows the rewards; below 1.
    entropy_weight : float, default 1e-4
        Weight of the policy's entropy, in nats, besides the reward: keeps it from being sure too early.
    prior_weight : float, default 0.8
        Weight of the distance from the prior, for decisions that have one, besides the reward.
    temperature, tanh_constant : float, default 5 and 2.5
        Of the scores: ``tanh_constant * tanh(score / temperature)``.
    rng : numpy.random.Generator, int or None
        Source of the initial weights and of the samples.

    Attributes
    ----------
    baseline : float or None
        Moving average of the rewards; None before the first.

    Raises
    ------
    TypeError, ValueError
        If a number is none or out of range, or `decisions` are none.

    Notes
    -----
    For N series a with rewards R, ``b`` the baseline, Adam follows the gradient of the mean over the series of::

        -(R - b) log p(a) - entropy_weight * sum_t H(p_t) + prior_weight * mean_t KL(p_t || prior_t)

    the entropy over the decisions without a prior and the divergence over those with one. The first sees each series'
    own rewards against the average of all before: ``b = decay * b + (1 - decay) * mean(R)``.

    H. Pham, M. Guan, B. Zoph, Q. Le, J. Dean, Efficient neural architecture search via parameter sharing, ICML 2018,
    section 2.2 and appendix B.

    Examples
    --------
    >>> from cyconv.nas import Controller, Decision
    >>> controller = Controller([Decision("coin", 2)] * 3, rng=0)
    >>> for _ in range(60):
    ...     choices = controller.sample(8)
    ...     _ = controller.update(choices, choices.mean(axis=1))
    >>> bool(controller.sample(100).mean() > 0.7)
    True
    """

    def __init__(
        self,
        decisions: Sequence[Decision],
        *,
        hidden_size: int = 100,
        learning_rate: float = 0.001,
        baseline_decay: float = 0.95,
        entropy_weight: float = 1e-4,
        prior_weight: float = 0.8,
        temperature: float = 5.0,
        tanh_constant: float = 2.5,
        rng: np.random.Generator | int | None = None,
    ) -> None:
        self.rng = as_generator("Controller", rng)
        self.policy = Policy(decisions, hidden_size, temperature, tanh_constant, self.rng)
        self.optimizer = Adam(as_number("Controller", "learning_rate", learning_rate, 0))
        self.baseline_decay = as_number("Controller", "baseline_decay", baseline_decay, 0, 1, open_maximum=True)
        entropy_weight = as_number("Controller", "entropy_weight", entropy_weight, 0)
        prior_weight = as_number("Controller", "prior_weight", prior_weight, 0)
        self.baseline: float | None = None
        with_prior = np.array([decision.prior is not None for decision in decisions])
        self._weights = np.where(with_prior, prior_weight / max(1, with_prior.sum()), entropy_weight)
        self._log_prior = np.zeros(self.policy.open.shape)
        for t, decision in enumerate(decisions):
            if decision.prior is not None:
                self._log_prior[t, self.policy.open[t]] = np.log(decision.prior)

    def sample(self, count: int = 1) -> NDArray[np.int64]:
        """Return so many series of choices, of shape (count, number of decisions)."""
        return self.policy.sample(as_int("Controller.sample", "count", count), self.rng)

    def update(self, choices: ArrayLike, rewards: ArrayLike) -> float:
        """Learn from the rewards of some series, and return the policy's entropy, in nats, averaged over the series.

        Parameters
        ----------
        choices : array-like of int of shape (N, number of decisions)
            As from `sample`.
        rewards : array-like of shape (N,)
            Finite numbers, more for better.

        Raises
        ------
        TypeError, ValueError
            If the shapes do not fit, a choice is none of the decision's, or a reward is not finite.
        """
        chosen, reward = self._checked(choices, rewards)
        mean = float(reward.mean())
        baseline = mean if self.baseline is None else self.baseline
        self.policy.zero_grad()
        _, entropy = self.loss_and_gradient(chosen, reward - baseline)
        self.optimizer.step(self.policy.parameters())
        self.baseline = self.baseline_decay * baseline + (1 - self.baseline_decay) * mean
        return entropy

    def loss_and_gradient(self, choices: NDArray, advantages: NDArray) -> tuple[float, float]:
        """Add the loss's gradient to the policy's parameters; return the loss and the entropy.

        Parameters
        ----------
        choices : ndarray of int of shape (N, T)
            Series of choices.
        advantages : ndarray of shape (N,)
            Their rewards less the baseline.
        """
        rows = self.policy.rows(choices)
        logs = F.log_softmax(self.policy.forward(rows).astype(np.float64), axis=2)
        probabilities = np.exp(logs)
        logs = np.where(self.policy.open, logs, 0.0)  # what cannot be chosen has the probability 0, and 0 log 0 is 0
        taken = np.take_along_axis(logs, rows[..., np.newaxis], axis=2)[..., 0]
        excess = logs - self._log_prior
        distances = (probabilities * excess).sum(axis=2)  # -H, or the divergence from the prior
        loss = -(advantages * taken.sum(axis=1)).mean() + (distances @ self._weights).mean()
        # d log p(a) / d score = [a] - p;  d (sum p (log p - q)) / d score = p (log p - q - sum)
        gradient = advantages[:, np.newaxis, np.newaxis] * probabilities
        chosen = np.take_along_axis(gradient, rows[..., np.newaxis], axis=2)
        np.put_along_axis(gradient, rows[..., np.newaxis], chosen - advantages[:, np.newaxis, np.newaxis], axis=2)
        gradient += self._weights[:, np.newaxis] * probabilities * (excess - distances[..., np.newaxis])
        self.policy.backward(gradient / len(rows))
        return float(loss), float(-(probabilities * logs).sum(axis=(1, 2)).mean())

    def _checked(self, choices: ArrayLike, rewards: ArrayLike) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        op, decisions = "Controller.update", self.policy.decisions
        chosen = as_int_array(op, "choices", choices, 2)
        if not len(chosen) or chosen.shape[1] != len(decisions):
            raise ValueError(f"{op}: `choices` must have shape (N, {len(decisions)}), N at least 1, got {chosen.shape}")
        most = np.array([decision.choices for decision in decisions])
        if (chosen < 0).any() or (chosen >= most).any():
            raise ValueError(f"{op}: `choices` must be from 0 to what each decision has, got {chosen.tolist()}")
        reward = as_array(op, "rewards", rewards)
        if reward.dtype.kind not in "fiu":
            raise TypeError(f"{op}: `rewards` must be numbers, got {reward.dtype}")
        if reward.shape != (len(chosen),) or not np.isfinite(reward).all():
            raise ValueError(f"{op}: `rewards` must be a finite number for each of {len(chosen)} series, got {reward}")
        return chosen, reward.astype(np.float64)


def _is_distribution(prior: tuple[float, ...], choices: int) -> bool:
    return len(prior) == choices and min(prior) > 0 and abs(sum(prior) - 1) < 1e-6
