import copy
import pickle
import re

import numpy as np
import pytest

from cyconv import layers
from cyconv.layers import BatchNorm2d, Conv2d, Dropout, Flatten, Layer, Linear, ReLU, Residual, Sequential
from cyconv.parameter import Parameter


def small_net():
    return Sequential(
        Conv2d(1, 4, 3, padding=1, bias=False),
        BatchNorm2d(4),
        ReLU(),
        Residual(Sequential(Conv2d(4, 4, 1), Dropout(0.2))),
        Flatten(),
        Linear(4 * 5 * 5, 3),
    )


NAMES = [
    "0.weight",
    "1.weight",
    "1.bias",
    "1.running_mean",
    "1.running_var",
    "1.num_batches_tracked",
    "3.body.0.weight",
    "3.body.0.bias",
    "5.weight",
    "5.bias",
]


def images(n=4, dtype=np.float32):
    return np.random.default_rng(0).standard_normal((n, 1, 5, 5)).astype(dtype)


def test_names_and_their_order_are_those_of_pytorch():
    assert list(small_net().state_dict()) == NAMES
    assert list(small_net().parameters()) == [n for n in NAMES if "running" not in n and "tracked" not in n]


def test_state_dict_round_trip_gives_the_same_bits():
    a, b = small_net().initialize(0), small_net().initialize(1)
    a(images())  # moves the running statistics
    b.load_state_dict(a.state_dict())
    np.testing.assert_array_equal(a.eval()(images()), b.eval()(images()))
    assert int(b.state_dict()["1.num_batches_tracked"]) == 1


def test_load_state_dict_lists_everything_that_is_wrong_and_changes_nothing():
    net = small_net().initialize(0)
    before = {name: array.copy() for name, array in net.state_dict().items()}
    state = {name: array + 1 for name, array in before.items()}
    del state["1.bias"]
    state["extra"] = np.zeros(1)
    state["5.weight"] = np.zeros((3, 7))
    message = r"missing: 1\.bias; unexpected: extra; misshapen: 5\.weight \(3, 7\) instead of \(3, 100\)"
    with pytest.raises(ValueError, match=message):
        net.load_state_dict(state)
    with pytest.raises(ValueError, match=r"Sequential: misshapen: 5\.weight"):
        net.load_state_dict(state, strict=False)
    with pytest.raises(TypeError, match=r"`0\.weight` must be of the kind of float32, got complex128"):
        net.load_state_dict({**before, "0.weight": before["0.weight"].astype(complex)})
    for name, array in net.state_dict().items():
        np.testing.assert_array_equal(array, before[name])


def test_load_state_dict_that_is_not_strict_takes_what_there_is():
    net = small_net().initialize(0)
    net.load_state_dict({"5.bias": np.arange(3.0), "extra": np.zeros(1)}, strict=False)
    np.testing.assert_array_equal(net.state_dict()["5.bias"], [0, 1, 2])


def test_backward_needs_a_forward_in_training_mode_each_time():
    layer = Linear(2, 2).initialize(0)
    x = np.ones((1, 2), np.float32)
    with pytest.raises(RuntimeError, match="Linear: each `backward` needs a `forward` in training mode"):
        layer.backward(x)
    layer(x)
    layer.backward(x)
    with pytest.raises(RuntimeError, match="there was none"):
        layer.backward(x)


def test_nothing_is_kept_in_evaluation_mode():
    net = small_net().initialize(0).eval()
    for _ in range(2):  # once to draw the weights, once to keep what predicting makes of them
        net(images())
    states = [dict(vars(layer)) for _, layer in net.walk()]
    running = net.state_dict()["1.running_mean"].copy()
    net(images())
    assert [vars(layer).keys() for _, layer in net.walk()] == [state.keys() for state in states]
    for (_, layer), state in zip(net.walk(), states, strict=True):
        assert all(value is state[name] for name, value in vars(layer).items() if name != "_prepared")
    np.testing.assert_array_equal(net.state_dict()["1.running_mean"], running)


def test_switching_to_evaluation_drops_what_backward_would_need():
    net = small_net().initialize(0)
    y = net(images())
    net.eval()
    with pytest.raises(RuntimeError, match="training mode"):
        net.backward(y)


def test_gradients_add_up_until_they_are_dropped():
    layer = Linear(3, 2).initialize(0)
    x, grad = np.ones((4, 3), np.float32), np.ones((4, 2), np.float32)
    layer(x)
    layer.backward(grad)
    once = layer.weight.grad.copy()
    layer(x)
    layer.backward(grad)
    np.testing.assert_array_equal(layer.weight.grad, 2 * once)
    layer.zero_grad()
    assert layer.weight.grad is None


def test_frozen_parameters_get_no_gradient():
    layer = Conv2d(1, 2, 3).initialize(0)
    layer.weight.trainable = False
    layer.backward(layer(images()))
    assert layer.weight.grad is None
    assert layer.bias.grad is not None


def test_initialize_is_a_function_of_the_seed():
    a, b, c = small_net().initialize(0), small_net().initialize(0), small_net().initialize(1)
    assert all(np.array_equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))
    assert not np.array_equal(a[0].weight.data, c[0].weight.data)
    assert a.random_state() == b.random_state() != c.random_state()


def test_copies_and_pickles_are_equal_and_independent():
    net = small_net().initialize(0).eval()
    expected = net(images())
    for twin in (copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        np.testing.assert_array_equal(twin(images()), expected)
        weight = twin[0].weight
        assert weight.flat(weight.data).base is not None  # still a view: the memory order survived
        weight.data[...] = 0
    np.testing.assert_array_equal(net(images()), expected)


def test_astype_converts_parameters_and_running_statistics():
    net = small_net().initialize(0).astype(np.float64)
    assert net(images(dtype=np.float64)).dtype == np.float64
    assert net[1].running_mean.dtype == np.float64
    assert net[1].num_batches_tracked.dtype == np.int64
    with pytest.raises(TypeError, match="`dtype` must be float32 or float64, got int32"):
        net.astype(np.int32)


def test_repr_shows_what_is_not_default():
    assert repr(Conv2d(3, 8, 3, padding=1)) == "Conv2d(3, 8, 3, padding=1)"
    assert repr(Conv2d(3, 8, (3, 5), stride=2, bias=False)) == "Conv2d(3, 8, (3, 5), stride=2, bias=False)"
    assert repr(Linear(3, 8)) == "Linear(3, 8)"
    assert repr(ReLU()) == "ReLU()"


def test_trace_names_the_layer_that_does_not_fit():
    net = Sequential(Conv2d(1, 4, 3), Residual(Conv2d(8, 8, 1)))
    with pytest.raises(ValueError, match=r"layer 1\.body: Conv2d: needs images of shape \(8, H, W\), got \(4, 3, 3\)"):
        list(net.trace((1, 5, 5)))


def test_trace_meets_the_layers_in_order():
    steps = list(small_net().trace((1, 5, 5)))
    assert [step.name for step in steps] == ["0", "1", "2", "3.body.0", "3.body.1", "3.shortcut", "3", "4", "5"]
    assert steps[-1].input_shape == (100,)
    assert steps[-1].output_shape == (3,)


def test_a_layer_of_ones_own():
    class Scale(Layer):
        def __init__(self):
            self.factor = Parameter(np.full(1, 2.0, np.float32))

        def output_shape(self, input_shape):
            return input_shape

        def forward(self, x):
            self.remember(x)
            return x * self.factor.data

        def backward(self, grad_output, needs_grad_input=True):
            (x,) = self.recall()
            self.factor.accumulate(np.sum(grad_output * x, keepdims=True).reshape(1))
            return grad_output * self.factor.data

    net = Sequential(Scale(), Flatten())
    net.backward(net(images()))
    assert list(net.parameters()) == ["0.factor"]
    assert net[0].factor.grad.shape == (1,)


@pytest.mark.parametrize("method", ["forward", "backward", "output_shape"])
def test_what_a_subclass_has_to_write(method):
    with pytest.raises(NotImplementedError, match=f"Layer: `{method}` is not written"):
        getattr(Layer(), method)(np.ones(1))


IMAGES = np.random.default_rng(0).standard_normal((2, 4, 6, 6)).astype(np.float32)
LAYERS = {
    "Conv2d": layers.Conv2d(4, 3, 3),
    "ConvTranspose2d": layers.ConvTranspose2d(4, 3, 2),
    "MaxPool2d": layers.MaxPool2d(2),
    "AvgPool2d": layers.AvgPool2d(2),
    "GlobalAvgPool2d": layers.GlobalAvgPool2d(),
    "AdaptiveAvgPool2d": layers.AdaptiveAvgPool2d(3),
    "AdaptiveMaxPool2d": layers.AdaptiveMaxPool2d(3),
    "BatchNorm2d": layers.BatchNorm2d(4),
    "ReLU": layers.ReLU(),
    "LeakyReLU": layers.LeakyReLU(),
    "Sigmoid": layers.Sigmoid(),
    "Tanh": layers.Tanh(),
    "Softmax": layers.Softmax(),
    "Dropout": layers.Dropout(),
    "Flatten": layers.Flatten(),
    "Linear": layers.Linear(4, 3),
    "Identity": layers.Identity(),
    "Residual": layers.Residual(layers.Identity()),
    "Branches": layers.Branches([layers.Identity(), layers.Conv2d(4, 2, 1)]),
    "Skip": layers.Skip(layers.Conv2d(4, 3, 3)),
    "Sequential": layers.Sequential(layers.ReLU(), layers.Dropout()),
    "Gate": layers.Gate(layers.Sigmoid()),
    "SideHead": layers.SideHead(layers.Conv2d(4, 2, 1)),
    "SameSize": layers.SameSize(layers.ConvTranspose2d(4, 2, 2)),
    "PadChannels": layers.PadChannels(6),
    "Split": layers.Split([layers.Identity(), layers.ReLU()]),
    "ChannelShuffle": layers.ChannelShuffle(2),
    "PReLU": layers.PReLU(4),
    "ELU": layers.ELU(),
    "SELU": layers.SELU(),
    "GELU": layers.GELU(),
    "SiLU": layers.SiLU(),
    "Softplus": layers.Softplus(),
    "Maxout": layers.Maxout(2),
    "Dropout2d": layers.Dropout2d(),
    "GroupNorm": layers.GroupNorm(2, 4),
    "Heads": layers.Heads({"a": layers.Conv2d(4, 2, 1), "b": layers.Conv2d(4, 3, 1)}),
    "InstanceNorm2d": layers.InstanceNorm2d(4),
    "LayerNorm": layers.LayerNorm((4, 6, 6)),
    "LocalResponseNorm": layers.LocalResponseNorm(3),
    "WeightNorm": layers.WeightNorm(layers.Conv2d(4, 3, 3)),
    "Upsample": layers.Upsample(scale_factor=2),
    "Pad": layers.Pad(1, mode="reflect"),
    "MaxUnpool1d": layers.MaxUnpool1d(layers.Identity(), 2),
    "MaxUnpool2d": layers.MaxUnpool2d(layers.Identity(), 2),
    "MaxUnpool3d": layers.MaxUnpool3d(layers.Identity(), 2),
    "AdaptiveAvgPool1d": layers.AdaptiveAvgPool1d(2),
    "AdaptiveMaxPool1d": layers.AdaptiveMaxPool1d(2),
    "GlobalAvgPool1d": layers.GlobalAvgPool1d(),
    "BatchNorm1d": layers.BatchNorm1d(4),
    "AdaptiveAvgPool3d": layers.AdaptiveAvgPool3d(2),
    "AdaptiveMaxPool3d": layers.AdaptiveMaxPool3d(2),
    "GlobalAvgPool3d": layers.GlobalAvgPool3d(),
    "BatchNorm3d": layers.BatchNorm3d(4),
    "Conv1d": layers.Conv1d(4, 3, 3),
    "ConvTranspose1d": layers.ConvTranspose1d(4, 3, 2),
    "MaxPool1d": layers.MaxPool1d(2),
    "AvgPool1d": layers.AvgPool1d(2),
    "Conv3d": layers.Conv3d(4, 3, 3),
    "ConvTranspose3d": layers.ConvTranspose3d(4, 3, 2),
    "MaxPool3d": layers.MaxPool3d(2),
    "AvgPool3d": layers.AvgPool3d(2),
    "Embedding": layers.Embedding(10, 3),
    "LSTM": layers.LSTM(6, 3),
}


def batch_for(name):
    """Return a batch that the layer takes."""
    if name == "Linear":
        return IMAGES[:, :, 0, 0]
    if name == "Embedding":
        return np.arange(8).reshape(2, 4)
    if name == "LSTM" or name.endswith("1d"):
        return IMAGES[:, :, 0]
    return np.repeat(IMAGES[:, :, np.newaxis], 5, axis=2) if name.endswith("3d") else IMAGES


def test_the_list_of_layers_is_complete():
    assert {*LAYERS} == {*layers.__all__} - {"Layer", "Step"}


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("axis", [0, 1, -1])
def test_a_gradient_of_another_shape_than_the_output_is_refused(name, axis):
    layer, x = LAYERS[name], batch_for(name)
    shape = layer(x).shape
    wrong = list(shape)
    wrong[axis] += 1
    named = [re.escape(str(each)) for each in (shape, tuple(wrong))]
    with pytest.raises(ValueError, match=f"backward: `grad_output` must have shape {named[0]}.*, got {named[1]}"):
        layer.backward(np.ones(wrong, np.float32))


@pytest.mark.parametrize("name", LAYERS)
def test_what_is_no_array_of_numbers_is_refused(name):
    layer, x = LAYERS[name], batch_for(name)
    masked = np.ma.masked_array(x, x > 0)
    with pytest.raises(TypeError, match=f"^{name}: `x` must be an array, got None$"):
        layer(None)
    with pytest.raises(TypeError, match=f"^{name}: `x` must have no mask, got a masked array"):
        layer(masked)
    y = layer(x)
    with pytest.raises(TypeError, match=r"backward: `grad_output` must be an array, got None$"):
        layer.backward(None)
    layer(x)
    with pytest.raises(TypeError, match="backward: `grad_output` must have no mask, got a masked array"):
        layer.backward(np.ma.masked_array(y, y > 0))


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ([1, 2], "load_state_dict: `state` must map names to arrays, got list"),
        ({3: None}, "load_state_dict: `3` must be an array, got None"),
        ({"weight": None}, "load_state_dict: `weight` must be an array, got None"),
        ({"weight": np.ma.ones((2, 3))}, "load_state_dict: `weight` must have no mask, got a masked array"),
    ],
)
def test_what_is_no_state_is_named(state, message):
    with pytest.raises(TypeError, match=message):
        Linear(3, 2, bias=False).load_state_dict(state)


def test_names_that_are_no_strings_are_listed():
    with pytest.raises(ValueError, match="unexpected: 3"):
        Linear(3, 2).load_state_dict({3: np.ones(1)})


def test_a_bias_is_there_or_not():
    with pytest.raises(TypeError, match="Conv2d: `bias` must be True or False, got 'no'"):
        Conv2d(1, 1, 3, bias="no")


def read_only_copy(value):
    """Return what unpickling gives where arrays lie in memory that may not be written to, as a worker's may."""
    buffers = []
    content = pickle.dumps(value, 5, buffer_callback=buffers.append)
    return pickle.loads(content, buffers=[buffer.raw().tobytes() for buffer in buffers])


def test_what_was_unpickled_into_read_only_memory_can_be_trained():
    with_buffers = [kind for kind in vars(layers).values() if isinstance(kind, type) and getattr(kind, "buffers", ())]
    assert BatchNorm2d in with_buffers
    for kind in with_buffers:
        loaded = read_only_copy(kind(3))
        for name in kind.buffers:
            array = getattr(loaded, name)
            assert type(array) is np.ndarray, (kind, name)
            array[...] = 2  # read-only memory would refuse that
    net = read_only_copy(small_net())
    assert net.load_state_dict(net.state_dict()) == ([], [])


def test_loading_that_is_not_strict_tells_what_did_not_match():
    net = small_net()
    state = {"0.weight": np.ones((4, 1, 3, 3)), "head.weight": np.ones(1), "1.weight": np.full(4, 2)}
    with pytest.raises(TypeError, match=r"`1\.weight` must be of the kind of float32, got int64"):
        net.load_state_dict(state, strict=False)
    state["1.weight"] = np.full(4, 2.0, np.float16)
    missing, unexpected = net.load_state_dict(state, strict=False)
    assert missing == [name for name in NAMES if name not in (*state, "1.num_batches_tracked")]
    assert unexpected == ["head.weight"]
    np.testing.assert_array_equal(net.state_dict()["1.weight"], 2)
    for nothing in ({}, {"a": np.ones(1)}):
        with pytest.raises(ValueError, match=r"does not fit this Sequential: missing: 0\.weight, 1\.weight"):
            net.load_state_dict(nothing, strict=False)
    assert ReLU().load_state_dict({"a": np.ones(1)}, strict=False) == ([], ["a"])


def test_errors_name_the_first_of_many():
    net = Sequential(*[Linear(1, 1) for _ in range(300)])
    with pytest.raises(ValueError, match=r"missing: 0\.weight, .*4\.bias and 590 more; unexpected: x+$") as caught:
        net.load_state_dict({"x" * 10**6: np.ones(1)})
    assert len(str(caught.value)) < 500


def test_the_number_of_batches_may_be_missing():
    net = small_net()
    net.load_state_dict({"1.num_batches_tracked": np.array(7)}, strict=False)
    state = {name: array + 1 for name, array in net.state_dict().items() if "tracked" not in name}
    assert net.load_state_dict(state) == ([], [])
    assert net.state_dict()["1.num_batches_tracked"] == 7
    del state["1.running_mean"]
    with pytest.raises(ValueError, match=r"missing: 1\.running_mean$"):
        net.load_state_dict(state)


@pytest.mark.parametrize("prefix", ["module.", "model._orig_mod.", "_orig_mod.module.model."])
def test_names_fit_whatever_wraps_them(prefix):
    net = small_net()
    state = {name: array + 1 for name, array in net.state_dict().items()}
    assert net.load_state_dict({prefix + name: array for name, array in state.items()}) == ([], [])
    for name, array in net.state_dict().items():
        np.testing.assert_array_equal(array, state[name])
    wrapped = Sequential({"model": small_net()})  # and the other way round
    wrapped.load_state_dict(state)
    for name, array in wrapped.state_dict().items():
        np.testing.assert_array_equal(array, state[name.removeprefix("model.")])


def test_a_dtype_is_checked_before_anything_is_changed():
    net = small_net()
    for layer in (net, ReLU()):
        with pytest.raises(TypeError, match="astype: `dtype` must be float32 or float64"):
            layer.astype(np.int32)
    assert net.state_dict()["0.weight"].dtype == np.float32
