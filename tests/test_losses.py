import numpy as np
import pytest

from cyconv.gradient_check import check_gradients
from cyconv.losses import CrossEntropyLoss, Loss, MSELoss, as_loss

RNG = np.random.default_rng(0)


def test_cross_entropy_is_minus_the_mean_log_probability():
    scores, target = RNG.standard_normal((5, 3)), np.array([0, 2, 1, 1, 0])
    probabilities = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    expected = -np.log(probabilities[np.arange(5), target]).mean()
    assert CrossEntropyLoss().forward(scores, target) == pytest.approx(expected, rel=1e-12)


def test_mse_is_the_mean_square_whatever_the_targets_dtype():
    output = np.array([[1, 2], [3, 5]], np.float32)
    assert MSELoss().forward(output, [[1, 2], [3, 4]]) == pytest.approx(0.25)
    assert MSELoss().backward(output, [[1, 2], [3, 4]]).dtype == np.float32


@pytest.mark.parametrize(
    ("loss", "output", "target"),
    [
        (CrossEntropyLoss(), RNG.standard_normal((4, 3)), np.array([0, 2, 1, 1])),
        (CrossEntropyLoss([1, 2, 0.5], label_smoothing=0.1), RNG.standard_normal((4, 3)), np.array([0, 2, 1, 1])),
        (CrossEntropyLoss(), RNG.standard_normal((2, 3, 4, 5)), RNG.integers(3, size=(2, 4, 5))),
        (MSELoss(), RNG.standard_normal((4, 3)), RNG.standard_normal((4, 3))),
    ],
)
def test_gradients(loss, output, target):
    def backward(grad_output, output):
        return grad_output * loss.backward(output, target)

    check_gradients(lambda output: np.array(loss.forward(output, target)), output, backward=backward)


def test_ignored_labels_have_no_part_in_loss_and_gradient():
    loss, scores, target = CrossEntropyLoss(ignore_index=7), RNG.standard_normal((5, 3)), np.array([0, 7, 1, 7, 2])
    counted = target != 7
    assert loss.count(target) == 3
    assert loss.forward(scores, target) == pytest.approx(CrossEntropyLoss().forward(scores[counted], target[counted]))
    gradient = loss.backward(scores, target)
    np.testing.assert_allclose(gradient[counted], CrossEntropyLoss().backward(scores[counted], target[counted]))
    np.testing.assert_array_equal(gradient[~counted], 0)
    loss.check_target("op", target, (3,))


def test_where_no_label_counts_there_is_nothing_to_learn():
    loss, scores, target = CrossEntropyLoss(), RNG.standard_normal((2, 3)), np.array([-100, -100])
    assert loss.forward(scores, target) == 0
    np.testing.assert_array_equal(loss.backward(scores, target), np.zeros((2, 3)))


@pytest.mark.parametrize(
    ("loss", "target", "kind", "message"),
    [
        (CrossEntropyLoss(), np.zeros(3), TypeError, "op: `y` must be integers, the classes' numbers"),
        (
            CrossEntropyLoss(),
            np.zeros((3, 1), int),
            ValueError,
            r"op: `y` must have shape \(N,\) for this network, got",
        ),
        (CrossEntropyLoss(), np.array([0, 4]), ValueError, "op: `y` must be class numbers from 0 to 3, got 0 to 4"),
        (
            CrossEntropyLoss(),
            np.array([-100, -100]),
            ValueError,
            "op: `y` holds no class, only the `ignore_index`",
        ),
        (CrossEntropyLoss(ignore_index=3), np.array([3, 4]), ValueError, "from 0 to 3, got 4 to 4"),
        (CrossEntropyLoss(), np.array([-1, 3]), ValueError, "from 0 to 3, got -1 to 3"),
        (CrossEntropyLoss([1, 2]), np.array([0, 1]), ValueError, "op: the loss has weights for 2 classes, but the net"),
        (MSELoss(), np.array(["a"]), TypeError, "op: `y` must be numbers"),
        (MSELoss(), np.zeros((3, 2)), ValueError, r"op: `y` must have shape \(N, 4\) for this network, got \(3, 2\)"),
    ],
)
def test_bad_targets_are_named(loss, target, kind, message):
    with pytest.raises(kind, match=message):
        loss.check_target("op", target, (4,))


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match="CrossEntropyLoss: `weight` must be a list of numbers that are at least 0"):
        CrossEntropyLoss([1, np.nan])
    with pytest.raises(ValueError, match="CrossEntropyLoss: `label_smoothing` must be at least 0 and at most 1, got 2"):
        CrossEntropyLoss(label_smoothing=2)
    with pytest.raises(TypeError, match=r"CrossEntropyLoss: `ignore_index` must be an integer, got 1\.5"):
        CrossEntropyLoss(ignore_index=1.5)
    with pytest.raises(TypeError, match="CrossEntropyLoss: `weight` must be numbers, got <U1"):
        CrossEntropyLoss(["a"])
    with pytest.raises(TypeError, match="MSELoss: `target` must be an array, got None"):
        MSELoss().forward(np.ones((1, 1)), None)
    with pytest.raises(TypeError, match="MSELoss: `target` must be numbers, got complex128"):
        MSELoss().backward(np.ones((1, 1)), [[1j]])


def test_names():
    assert isinstance(as_loss("fit", "mse"), MSELoss)
    loss = CrossEntropyLoss()
    assert as_loss("fit", loss) is loss
    assert repr(loss) == "CrossEntropyLoss()"
    with pytest.raises(ValueError, match="fit: `loss` must be one of 'cross_entropy', 'mse', got 'l1'"):
        as_loss("fit", "l1")
    with pytest.raises(NotImplementedError, match="Loss: `forward` is not written"):
        Loss().forward(np.ones(1), np.ones(1))
