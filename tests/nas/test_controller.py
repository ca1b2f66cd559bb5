import numpy as np
import pytest

from cyconv.nas import Controller, Decision, MacroSpace, MicroSpace
from cyconv.nas.controller import Policy
from tests import numerical

PRIOR = (0.6, 0.4)
DECISIONS = [Decision("input", 2), Decision("operation", 4), Decision("input", 3), Decision("skip", 2, PRIOR)]
ROWS = {"input": 0, "operation": 3, "skip": 7}  # of each kind's first choice


def controller(**options):
    """One whose weights are no longer tiny, so that its distributions are far from even, in float64."""
    made = Controller(DECISIONS, hidden_size=3, rng=0, temperature=1.5, **options)
    made.policy.astype(np.float64)
    for parameter in made.policy.parameters().values():
        parameter.data = 12 * parameter.data
    return made


def probabilities(policy, choices):
    """The distributions of all decisions for one series of choices, by the formulas, in plain NumPy."""
    weights = {name: parameter.data for name, parameter in policy.parameters().items()}
    h = c = np.zeros(policy.lstm.hidden_size)
    row, found = 9, []  # the last vector stands for no choice
    for decision, choice in zip(DECISIONS, choices, strict=True):
        x = weights["embedding.weight"][row]
        z = weights["lstm.weight_ih_l0"] @ x + weights["lstm.weight_hh_l0"] @ h
        z += weights["lstm.bias_ih_l0"] + weights["lstm.bias_hh_l0"]
        i, f, g, o = np.split(z, 4)
        c = c / (1 + np.exp(-f)) + np.tanh(g) / (1 + np.exp(-i))
        h = np.tanh(c) / (1 + np.exp(-o))
        own = slice(ROWS[decision.kind], ROWS[decision.kind] + decision.choices)
        scores = 2.5 * np.tanh((weights["head.weight"][own] @ h + weights["head.bias"][own]) / 1.5)
        found.append(np.exp(scores) / np.exp(scores).sum())
        row = ROWS[decision.kind] + choice
    return found


def expected_loss(policy, series, advantages, entropy_weight, prior_weight):
    total = 0.0
    for choices, advantage in zip(series, advantages, strict=True):
        found = probabilities(policy, choices)
        total -= advantage * sum(np.log(p[choice]) for p, choice in zip(found, choices, strict=True))
        total += entropy_weight * sum(np.sum(p * np.log(p)) for p in found[:3])
        total += prior_weight * np.sum(found[3] * np.log(found[3] / PRIOR))
    return total / len(series)


SERIES, ADVANTAGES = np.array([[0, 3, 2, 1], [1, 0, 1, 0], [1, 2, 0, 0]]), np.array([0.7, -0.4, 0.1])


def test_loss_is_the_formula():
    made = controller(entropy_weight=0.05, prior_weight=0.3)
    loss, entropy = made.loss_and_gradient(SERIES, ADVANTAGES)
    assert loss == pytest.approx(expected_loss(made.policy, SERIES, ADVANTAGES, 0.05, 0.3), rel=1e-10)
    entropies = [-np.sum(p * np.log(p)) for choices in SERIES for p in probabilities(made.policy, choices)]
    assert entropy == pytest.approx(np.sum(entropies) / 3, rel=1e-10)


@pytest.mark.parametrize(("entropy_weight", "prior_weight"), [(0.0, 0.0), (0.2, 0.0), (0.0, 0.5), (0.1, 0.8)])
def test_gradient_is_that_of_the_log_probability_times_the_reward(entropy_weight, prior_weight):
    """Central differences of the plain formula, over all weights."""
    made = controller(entropy_weight=entropy_weight, prior_weight=prior_weight)
    made.loss_and_gradient(SERIES, ADVANTAGES)
    for name, parameter in made.policy.parameters().items():
        values = parameter.data.copy()

        def loss(x, parameter=parameter):
            parameter.data = x
            return expected_loss(made.policy, SERIES, ADVANTAGES, entropy_weight, prior_weight)

        numeric = numerical.gradient(loss, values)
        parameter.data = values
        np.testing.assert_allclose(parameter.grad, numeric, rtol=1e-5, atol=1e-8, err_msg=name)


def test_samples_follow_the_distributions():
    made = controller()
    samples = made.sample(20000)
    assert samples.shape == (20000, 4)
    assert (samples.min(axis=0) >= 0).all()
    for t, decision in enumerate(DECISIONS):
        for prefix in {tuple(each) for each in samples[:50, :t]}:
            chosen = samples[(samples[:, :t] == prefix).all(axis=1), t]
            p = probabilities(made.policy, [*prefix, *[0] * (4 - t)])[t]
            share = np.bincount(chosen, minlength=decision.choices) / len(chosen)
            np.testing.assert_allclose(share, p, atol=5 * np.sqrt(0.25 / len(chosen)))


def test_forward_leaves_only_what_may_be_chosen_open():
    policy = Policy(DECISIONS, hidden_size=4, rng=0)
    scores = policy.forward(policy.rows(SERIES))
    assert scores.shape == (3, *policy.output_shape((4,))) == (3, 4, 9)
    assert np.isfinite(scores).sum(axis=(0, 2)).tolist() == [3 * each.choices for each in DECISIONS]
    assert (np.abs(scores[np.isfinite(scores)]) <= 2.5).all()


def test_new_controllers_find_all_choices_about_as_likely():
    for space in (MicroSpace(4), MacroSpace(6)):
        made = Controller(space.decisions, rng=0)
        most = sum(np.log(decision.choices) for decision in space.decisions)
        assert made.update(made.sample(4), np.zeros(4)) == pytest.approx(most, rel=2e-3)


def test_rewarded_choices_become_likely():
    """A bandit that pays for agreeing with a secret series, in which the right input depends on the operation."""
    made = Controller(DECISIONS[:3], rng=0, learning_rate=0.01)
    entropies = []
    for _ in range(150):
        choices = made.sample(8)
        right = (choices[:, 1] == 2) / 2 + (choices[:, 2] == choices[:, 0]) / 2
        entropies.append(made.update(choices, right))
    choices = made.sample(200)
    assert ((choices[:, 1] == 2) & (choices[:, 2] == choices[:, 0])).mean() > 0.9
    assert made.baseline > 0.9
    assert entropies[-1] < 0.5 * entropies[0]


def test_the_baseline_follows_the_rewards():
    made = Controller(DECISIONS, rng=0, baseline_decay=0.75)
    assert made.baseline is None
    made.update(SERIES, [1, 2, 3])
    assert made.baseline == 2.0
    made.update(SERIES, [4, 4, 4])
    assert made.baseline == 2.5


def test_entropy_is_rewarded_and_the_prior_kept_to():
    """Without rewards, what is left are the two regularisers."""
    made = controller(entropy_weight=1.0, prior_weight=1.0, learning_rate=0.02)
    first = made.update(SERIES, np.zeros(3))
    for _ in range(80):
        last = made.update(made.sample(8), np.zeros(8))
    assert last > first
    p = probabilities(made.policy, [0, 0, 0, 0])
    assert p[3][0] == pytest.approx(0.6, abs=0.05)
    assert p[1] == pytest.approx(np.full(4, 0.25), abs=0.05)


def test_seeds():
    first, same, other = (Controller(DECISIONS, rng=seed).sample(5).tolist() for seed in (0, 0, 1))
    assert first == same
    assert first != other


@pytest.mark.parametrize(
    ("decisions", "options", "error", "message"),
    [
        ([], {}, ValueError, "Controller: `decisions` must not be empty"),
        ([2, 3], {}, TypeError, r"Controller: `decisions` must be a sequence of Decision, got \[2, 3\]"),
        ([Decision("a", 0)], {}, ValueError, "Controller: `choices` must be at least 1, got 0"),
        (
            [Decision("a", 2, (0.5, 0.2))],
            {},
            ValueError,
            r"Controller: `prior` must be 2 probabilities",
        ),
        (
            [Decision("a", 2, (1.0, 0.0))],
            {},
            ValueError,
            r"Controller: `prior` must be 2 probabilities",
        ),
        ([Decision("a", 2, (1.0,))], {}, ValueError, r"Controller: `prior` must be 2 probabilities"),
        (DECISIONS, {"temperature": 0}, ValueError, "Controller: `temperature` must be above 0, got 0"),
        (DECISIONS, {"tanh_constant": -1}, ValueError, "Controller: `tanh_constant` must be above 0, got -1"),
        (DECISIONS, {"hidden_size": 0}, ValueError, "Controller: `hidden_size` must be at least 1, got 0"),
        (DECISIONS, {"baseline_decay": 1}, ValueError, "Controller: `baseline_decay` must be at least 0 and below 1"),
        (DECISIONS, {"entropy_weight": -1}, ValueError, "Controller: `entropy_weight` must be at least 0, got -1"),
        (DECISIONS, {"prior_weight": "a"}, TypeError, "Controller: `prior_weight` must be a number, got 'a'"),
        (DECISIONS, {"learning_rate": -1}, ValueError, "Controller: `learning_rate` must be at least 0, got -1"),
    ],
)
def test_controllers_refuse(decisions, options, error, message):
    with pytest.raises(error, match=message):
        Controller(decisions, **options)


@pytest.mark.parametrize(
    ("choices", "rewards", "error", "message"),
    [
        (SERIES[:, :3], ADVANTAGES, ValueError, r"Controller.update: `choices` must have shape \(N, 4\), N at least 1"),
        (SERIES[:0], ADVANTAGES[:0], ValueError, r"`choices` must have shape \(N, 4\), N at least 1, got \(0, 4\)"),
        (SERIES + 2, ADVANTAGES, ValueError, "`choices` must be from 0 to what each decision has, got"),
        (SERIES - 1, ADVANTAGES, ValueError, "`choices` must be from 0 to what each decision has, got"),
        (SERIES / 2, ADVANTAGES, TypeError, "`choices` must be integers, got float64"),
        (SERIES, ADVANTAGES[:2], ValueError, "`rewards` must be a finite number for each of 3 series, got"),
        (SERIES, [1, np.nan, 1], ValueError, "`rewards` must be a finite number for each of 3 series, got"),
        (SERIES, ["a"] * 3, TypeError, "`rewards` must be numbers, got <U1"),
    ],
)
def test_updates_refuse(choices, rewards, error, message):
    made = Controller(DECISIONS, rng=0)
    with pytest.raises(error, match=message):
        made.update(choices, rewards)
    assert made.baseline is None


def test_sample_refuses():
    with pytest.raises(ValueError, match=r"Controller.sample: `count` must be at least 1, got 0"):
        Controller(DECISIONS).sample(0)
