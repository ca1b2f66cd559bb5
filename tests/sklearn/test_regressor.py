import numpy as np
import pytest

pytest.importorskip("sklearn")
from sklearn.base import clone
from sklearn.compose import TransformedTargetRegressor
from sklearn.model_selection import cross_val_score
from sklearn.preprocessing import StandardScaler

from cyconv.sklearn import ConvNetRegressor
from cyconv.sklearn.regressor import WeightedSquares

RNG = np.random.default_rng(0)
ABOVE, BELOW = RNG.random((2, 200)).astype(np.float32)  # how bright the halves of an image are
X = np.repeat(np.stack([ABOVE, BELOW], axis=1), 4, axis=1).reshape(200, 1, 8, 1) + RNG.normal(0, 0.2, (200, 1, 8, 8))
SMALL = ConvNetRegressor(channels=4, hidden=16, epochs=40, learning_rate=0.005, random_state=0)


def test_learns_one_number_and_several():
    one = clone(SMALL).fit(X, ABOVE - BELOW)
    assert one.predict(X).shape == (200,)
    assert one.score(X, ABOVE - BELOW) > 0.9
    two = clone(SMALL).fit(X, np.column_stack([ABOVE, BELOW]))
    assert two.predict(X).shape == (200, 2)
    assert two.score(X, np.column_stack([ABOVE, BELOW])) > 0.8


def test_with_transformed_targets():
    far = 1e4 * (ABOVE - BELOW) + 1e6
    regressor = TransformedTargetRegressor(clone(SMALL), transformer=StandardScaler())
    assert cross_val_score(regressor, X, far, cv=2).min() > 0.5


def loss_by_hand(output, targets, weights):
    total = 0.0
    for row in range(len(output)):
        total += weights[row] * sum((output[row, k] - targets[row, k]) ** 2 for k in range(output.shape[1]))
    return total / (sum(weights) * output.shape[1])


@pytest.mark.parametrize("columns", [1, 3])
def test_weighted_squares(columns):
    output, targets, weights = RNG.normal(size=(6, columns)), RNG.normal(size=(6, columns)), RNG.random(6)
    packed = np.column_stack([targets, weights])
    loss = WeightedSquares()
    assert loss.forward(output, packed) == pytest.approx(loss_by_hand(output, targets, weights), rel=1e-12)
    gradient = loss.backward(output, packed)
    for row, column in np.ndindex(output.shape):
        step = np.zeros_like(output)
        step[row, column] = 1e-6
        slope = (loss_by_hand(output + step, targets, weights) - loss_by_hand(output - step, targets, weights)) / 2e-6
        assert gradient[row, column] == pytest.approx(slope, rel=1e-6, abs=1e-9)


def test_weighted_squares_without_weight_are_none():
    output, packed = np.ones((3, 2), np.float32), np.zeros((3, 3), np.float32)
    assert WeightedSquares().forward(output, packed) == WeightedSquares().total_weight(packed) == 0
    assert not WeightedSquares().backward(output, packed).any()


def test_weights_of_samples_are_repetitions():
    weights = RNG.integers(0, 4, len(X))
    whole = clone(SMALL).set_params(batch_size=1000, epochs=10)
    weighted = clone(whole).fit(X, ABOVE, sample_weight=weights)
    repeated = clone(whole).fit(np.repeat(X, weights, 0), np.repeat(ABOVE, weights))
    np.testing.assert_allclose(weighted.predict(X), repeated.predict(X), atol=1e-5)


def test_partial_fit_and_warm_start_go_on():
    regressor = clone(SMALL)
    for _ in range(40):
        regressor.partial_fit(X, ABOVE - BELOW)
    np.testing.assert_allclose(
        regressor.history_["loss"], clone(SMALL).fit(X, ABOVE - BELOW).history_["loss"], rtol=1e-5
    )
    warm = clone(SMALL).set_params(warm_start=True, epochs=1).fit(X, ABOVE)
    network = warm.network_
    assert warm.fit(X, BELOW).network_ is network
    with pytest.raises(ValueError, match=r"`y` must have as many columns as before, got shape \(200, 2\)"):
        warm.fit(X, np.column_stack([ABOVE, BELOW]))


def test_early_stopping():
    stopping = clone(SMALL).set_params(early_stopping=True, n_iter_no_change=3, epochs=500).fit(X, ABOVE)
    assert stopping.n_iter_ < 500


def test_a_named_network_predicts_numbers():
    fitted = clone(SMALL).set_params(network="resnet20", network_options={"width": 4}, epochs=1).fit(X[:50], ABOVE[:50])
    assert fitted.network_.output_shape((1, 8, 8)) == (1,)


def test_targets_without_a_column_for_weights():
    with pytest.raises(ValueError, match=r"fit: `y` must have a column for each of \(2,\) and weights, got \(3, 2\)"):
        WeightedSquares().check_target("fit", np.zeros((3, 2)), (2,))
