import numpy as np
import pytest

from cyconv import functional as F
from cyconv.gradient_check import check_gradients
from cyconv.layers import LSTM


def sequences(dtype=np.float32):
    return np.random.default_rng(0).standard_normal((3, 5, 4)).astype(dtype)


@pytest.mark.parametrize("bias", [True, False])
def test_gradients(bias):
    layer = LSTM(4, 6, bias=bias)
    check_gradients(layer, sequences(np.float64))
    assert len(layer.parameters()) == (4 if bias else 2)


def test_forward_is_the_op_and_the_steps():
    layer, x = LSTM(4, 6).initialize(0), sequences()
    weights = [parameter.data for parameter in layer.parameters().values()]
    h = c = np.zeros((3, 6), np.float32)
    y = layer(x)
    assert y.shape[1:] == layer.output_shape((5, 4))
    np.testing.assert_allclose(y, F.lstm(x, h, c, *weights)[0], rtol=1e-6)
    np.testing.assert_array_equal(layer.eval()(x), y)
    for t in range(5):
        h, c = layer.step(x[:, t], h, c)
        np.testing.assert_allclose(h, y[:, t], rtol=1e-5, atol=1e-7)


def test_weights_are_pytorchs():
    torch = pytest.importorskip("torch")
    peer, layer = torch.nn.LSTM(4, 6, batch_first=True), LSTM(4, 6)
    layer.load_state_dict({name: tensor.numpy() for name, tensor in peer.state_dict().items()})
    expected = peer(torch.from_numpy(sequences()))[0].detach().numpy()
    np.testing.assert_allclose(layer(sequences()), expected, atol=1e-6)


def test_wrong_shapes_are_named():
    with pytest.raises(ValueError, match=r"LSTM: needs sequences of shape \(T, 4\), got \(5, 3\)"):
        LSTM(4, 6)(np.ones((2, 5, 3), np.float32))
    layer = LSTM(4, 6)
    layer(sequences())
    with pytest.raises(ValueError, match=r"LSTM.backward: `grad_output` must have shape \(3, 5, 6\)"):
        layer.backward(np.ones((3, 5, 4), np.float32))
