import numpy as np
import pytest

from cyconv import functional as F
from cyconv.gradient_check import check_gradients

N, T, FEATURES, H = 3, 5, 4, 6
rng = np.random.default_rng(0)
ARRAYS = [
    rng.standard_normal(shape)
    for shape in ((N, T, FEATURES), (N, H), (N, H), (4 * H, FEATURES), (4 * H, H), (4 * H,), (4 * H,))
]
NAMES = ("x", "h", "c", "weight_ih", "weight_hh", "bias_ih", "bias_hh")


def lstm(x, h, c, weight_ih, weight_hh, bias_ih, bias_hh):
    """Run the equations, a gate and a step at a time."""

    def sigmoid(z):
        return 1 / (1 + np.exp(-z))

    outputs = []
    for t in range(x.shape[1]):
        rows = [slice(k * H, (k + 1) * H) for k in range(4)]
        i, f, g, o = (x[:, t] @ weight_ih[r].T + h @ weight_hh[r].T + bias_ih[r] + bias_hh[r] for r in rows)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        h = sigmoid(o) * np.tanh(c)
        outputs.append(h)
    return np.stack(outputs, axis=1), h, c


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_equals_reference(dtype):
    found = F.lstm(*(array.astype(dtype) for array in ARRAYS))
    for ours, expected in zip(found, lstm(*ARRAYS), strict=True):
        assert ours.dtype == dtype
        np.testing.assert_allclose(ours, expected, atol={np.float32: 1e-5, np.float64: 1e-13}[dtype])
    step = F.lstm_cell(ARRAYS[0][:, 0], *ARRAYS[1:])
    np.testing.assert_allclose(step[0], lstm(*ARRAYS)[0][:, 0], atol=1e-13)
    np.testing.assert_array_equal(F.lstm(*ARRAYS[:5])[0].shape, (N, T, H))


def test_gradients():
    """Of all three results at once, joined to one array."""

    def joined(*arrays):
        output, h, c = F.lstm(*arrays)
        return np.concatenate([output, h[:, None], c[:, None]], axis=1)

    def backward(grad, *arrays):
        return F.lstm_backward(grad[:, :T], *arrays, grad_h=grad[:, T], grad_c=grad[:, T + 1])

    check_gradients(joined, *ARRAYS, backward=backward)


def test_gradients_of_a_step():
    def joined(*arrays):
        return np.stack(F.lstm_cell(*arrays))

    def backward(grad, *arrays):
        return F.lstm_cell_backward(*grad, *arrays)

    check_gradients(joined, ARRAYS[0][:, 0], *ARRAYS[1:], backward=backward)


def test_without_biases():
    gradients = F.lstm_backward(np.ones((N, T, H)), *ARRAYS[:5])
    assert gradients[5:] == (None, None)


def test_against_torch():
    torch = pytest.importorskip("torch")
    peer = torch.nn.LSTM(FEATURES, H, batch_first=True, dtype=torch.float64)
    for parameter, values in zip(peer.parameters(), ARRAYS[3:], strict=True):
        parameter.data = torch.from_numpy(values)
    x, h, c = (torch.from_numpy(array) for array in ARRAYS[:3])
    output, (h, c) = peer(x, (h[None], c[None]))
    for ours, theirs in zip(F.lstm(*ARRAYS), (output, h[0], c[0]), strict=True):
        np.testing.assert_allclose(ours, theirs.detach().numpy(), atol=1e-13)


@pytest.mark.parametrize(
    ("name", "shape", "message"),
    [
        ("x", (N, T), "lstm: `x` must have 3 dimensions"),
        ("h", (N, H + 1), r"lstm: `h` must have shape \(3, 6\)"),
        ("weight_hh", (4 * H, H + 1), r"lstm: `weight_hh` must have shape \(4 H, H\)"),
        ("weight_ih", (4 * H, FEATURES + 1), r"lstm: `weight_ih` must have shape \(24, 4\)"),
        ("bias_hh", (H,), r"lstm: `bias_hh` must have shape \(24,\)"),
    ],
)
def test_wrong_arguments_are_named(name, shape, message):
    arrays = dict(zip(NAMES, ARRAYS, strict=True))
    with pytest.raises(ValueError, match=message):
        F.lstm(**{**arrays, name: np.ones(shape)})
    with pytest.raises(TypeError, match="lstm: all arrays must have the same dtype"):
        F.lstm(**{**arrays, name: arrays[name].astype(np.float32)})


@pytest.mark.parametrize("h", ["text", 1.5, np.zeros(3), None])
def test_hidden_state_of_another_kind(h):
    state, weight_ih, weight_hh = np.zeros((1, 1)), np.ones((4, 2)), np.ones((4, 1))
    with pytest.raises((TypeError, ValueError), match=r"^lstm_cell_backward: `h` must "):
        F.lstm_cell_backward(state, state, np.ones((1, 2)), h, state, weight_ih, weight_hh)
