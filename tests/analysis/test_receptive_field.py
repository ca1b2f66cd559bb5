"""Receptive fields against what really changes: inputs are perturbed, and outputs compared."""

import itertools

import numpy as np
import pytest

from cyconv import Network, analysis, models
from cyconv import layers as L
from tests.analysis.test_counts import Scale


def lively(layer):
    """Return the layer in float64, predicting, with weights that are never zero and kinks that let all through."""
    rng = np.random.default_rng(0)
    for _, inner in list(layer.walk()):
        children = dict(inner.children())
        for name, child in children.items():
            if isinstance(child, L.ReLU):
                inner[name] = L.LeakyReLU(0.5)
    for parameter in layer.parameters().values():
        parameter.data = rng.uniform(0.5, 1.5, parameter.shape) * rng.choice([-1, 1], parameter.shape)
    return layer.astype(np.float64).eval()


def reached(layer, input_shape, axis, trials=6):
    """Return for each position of the output whether it changes with each position of the input along an axis."""
    rng = np.random.default_rng(1)
    outputs = layer.output_shape(input_shape)
    extent = outputs[axis] if len(outputs) == len(input_shape) else 1
    changed = np.zeros((extent, input_shape[axis]), bool)
    others = tuple(i for i in range(len(outputs) + 1) if i != axis + 1)
    for _ in range(trials):
        x = rng.standard_normal((1, *input_shape))
        before = layer(x).copy()
        for position in range(input_shape[axis]):
            line = (slice(None),) * axis + (position,)
            perturbed = x.copy()
            perturbed[(0, *line)] += rng.uniform(2, 6, perturbed[(0, *line)].shape) * rng.choice([-1, 1])
            difference = np.abs(layer(perturbed) - before) > 1e-9
            changed[:, position] |= difference.any(axis=others) if extent > 1 else difference.any()
    return changed


def check(layer, input_shape):
    """Compare the exact field of every position with what changes."""
    layer = lively(layer)
    field = analysis.receptive_field(layer, input_shape)
    assert len(field.axes) == len(input_shape) - 1
    for axis, seen in enumerate(field.axes, 1):
        changed = reached(layer, input_shape, axis)
        assert len(seen.first) == len(changed)
        for i, row in enumerate(changed):
            expected = (int(row.argmax()), len(row) - 1 - int(row[::-1].argmax())) if row.any() else None
            found = (int(seen.first[i]), int(seen.last[i])) if seen.first[i] <= seen.last[i] else None
            assert found == expected, f"axis {axis}, output {i}"
    return field


def chain(*layers):
    return L.Sequential(*layers)


C = L.Conv2d
SQUARE = (2, 13, 11)
# Every layer and container, by itself and among others, with the shape of an input.
CASES = {
    "convolution": (C(2, 3, (3, 2)), SQUARE),
    "stride and padding": (C(2, 3, 3, stride=2, padding=1), SQUARE),
    "same": (C(2, 3, 4, padding="same"), SQUARE),
    "same with a stride": (C(2, 3, 3, stride=2, padding="same"), SQUARE),
    "uneven padding": (C(2, 3, 3, padding=((2, 0), (1, 3))), SQUARE),
    "more padding than kernel": (C(2, 3, 2, padding=4), SQUARE),
    "dilation": (C(2, 3, 3, dilation=(2, 3)), SQUARE),
    "stride beyond the kernel": (C(2, 3, 1, stride=3), SQUARE),
    "groups": (C(2, 4, 3, groups=2), SQUARE),
    "a stack": (chain(C(2, 3, 3, 2, 1), L.ReLU(), C(3, 3, 3, dilation=2), L.MaxPool2d(2)), SQUARE),
    "transposed": (L.ConvTranspose2d(2, 3, 3, stride=2, padding=1, output_padding=1), SQUARE),
    "transposed with holes": (L.ConvTranspose2d(2, 3, (2, 1), stride=3, output_padding=2), SQUARE),
    "transposed, dilated": (L.ConvTranspose2d(2, 3, 3, stride=2, dilation=2), SQUARE),
    "transposed, behind and in front": (
        chain(C(2, 2, 3, 2), L.ConvTranspose2d(2, 2, 4, 2, 1), C(2, 2, 3, padding=1), L.MaxPool2d(3, 2)),
        SQUARE,
    ),
    "max pooling": (L.MaxPool2d(3, 2, 1), SQUARE),
    "max pooling, rounded up": (L.MaxPool2d(3, 2, dilation=2, ceil_mode=True), SQUARE),
    "average pooling": (L.AvgPool2d((2, 3), (2, 1), (0, 1)), SQUARE),
    "average pooling, rounded up": (L.AvgPool2d(4, 3, ceil_mode=True), SQUARE),
    "adaptive pooling": (L.AdaptiveAvgPool2d((5, 4)), SQUARE),
    "adaptive max pooling": (L.AdaptiveMaxPool2d((4, 6)), SQUARE),
    "adaptive pooling of little": (L.AdaptiveAvgPool2d((7, 3)), (2, 3, 3)),
    "global pooling": (chain(C(2, 2, 1, stride=3), L.GlobalAvgPool2d()), SQUARE),
    "behind global pooling": (chain(C(2, 2, 3), L.GlobalAvgPool2d(), C(2, 2, 1), L.Upsample((2, 3))), SQUARE),
    "flattened": (chain(C(2, 2, 1, stride=2), L.Flatten(), L.Linear(2 * 7 * 6, 4), L.ReLU()), SQUARE),
    "nearest, twice": (L.Upsample(scale_factor=2), SQUARE),
    "nearest, by two thirds": (L.Upsample((8, 15)), SQUARE),
    "nearest, by an odd factor": (L.Upsample(scale_factor=1.7), SQUARE),
    "bilinear, twice": (L.Upsample(scale_factor=2, mode="bilinear"), SQUARE),
    "bilinear, to a size": (L.Upsample((20, 7), mode="bilinear"), SQUARE),
    "bilinear, by an odd factor": (L.Upsample(scale_factor=(1.7, 0.6), mode="bilinear"), SQUARE),
    "bilinear, corners aligned": (L.Upsample((25, 4), mode="bilinear", align_corners=True), SQUARE),
    "bilinear, of one pixel": (L.Upsample((3, 2), mode="bilinear", align_corners=True), (2, 1, 1)),
    "zero padding": (chain(L.Pad((1, 2, 0, 3)), C(2, 2, 3)), SQUARE),
    "reflecting": (chain(L.Pad(3, "reflect"), C(2, 2, 3)), SQUARE),
    "replicating": (chain(L.Pad((1, 2, 3, 0), "replicate"), C(2, 2, 3, 2)), SQUARE),
    "circular": (chain(L.Pad((2, 1), "circular"), C(2, 2, 3)), SQUARE),
    "batch normalisation": (chain(C(2, 4, 3), L.BatchNorm2d(4), L.PReLU(4), L.Dropout(0.5)), SQUARE),
    "group normalisation": (chain(C(2, 4, 1, stride=2), L.GroupNorm(2, 4)), SQUARE),
    "instance normalisation": (L.InstanceNorm2d(2), SQUARE),
    "layer normalisation": (L.LayerNorm((2, 13, 11)), SQUARE),
    "layer normalisation of rows": (chain(C(2, 2, (3, 1)), L.LayerNorm(11)), SQUARE),
    "local response": (chain(L.LocalResponseNorm(2, 5.0), L.Maxout(2), L.Softplus()), SQUARE),
    "weight normalisation": (L.WeightNorm(C(2, 3, 3, 2)), SQUARE),
    "residual": (L.Residual(chain(C(2, 2, 3, padding=1), L.ReLU(), C(2, 2, 3, padding=1))), SQUARE),
    "residual, projected": (L.Residual(C(2, 4, 3, 2, 1), C(2, 4, 1, 2)), SQUARE),
    "branches": (L.Branches([C(2, 1, 1), C(2, 2, (1, 5), padding="same"), C(2, 2, (3, 1), padding="same")]), SQUARE),
    "branches of unlike strides": (L.Branches([C(2, 2, 3, stride=4), C(2, 2, 6, stride=3)]), (2, 15, 15)),
    "branches of unlike pitch": (
        L.Branches([chain(L.MaxPool2d(2), L.Upsample(scale_factor=2)), C(2, 2, 3, padding=1)]),
        (2, 12, 12),
    ),
    "skip": (L.Skip(chain(C(2, 2, 3), L.MaxPool2d(2), L.ConvTranspose2d(2, 2, 2, 2))), (2, 12, 10)),
    "skip, added": (L.Skip(C(2, 2, 4), merge="sum"), SQUARE),
    "gate of pixels": (L.Gate(chain(C(2, 2, 3, padding=1), L.Sigmoid())), SQUARE),
    "gate of channels": (chain(C(2, 2, 3), L.Gate(chain(L.GlobalAvgPool2d(), C(2, 2, 1), L.Sigmoid()))), SQUARE),
    "split": (chain(L.Split([L.Identity(), C(1, 1, 3, padding=1)]), L.ChannelShuffle(2), L.PadChannels(1)), SQUARE),
    "heads": (L.Heads({"a": C(2, 1, 1), "b": C(2, 2, 3, padding=1)}), SQUARE),
    "side head": (chain(L.SideHead(L.GlobalAvgPool2d()), C(2, 2, 3)), SQUARE),
    "same size": (L.SameSize(chain(L.MaxPool2d(2, ceil_mode=True), L.ConvTranspose2d(2, 2, 2, 2))), SQUARE),
    "unpooling": (L.MaxUnpool2d(L.Identity(), 2), SQUARE),
    "unpooling, around": (L.MaxUnpool2d(C(2, 2, 3, padding=1), (2, 3), 3, (1, 1)), SQUARE),
    "sequences": (chain(L.Conv1d(2, 3, 3, 2, padding=(1, 0)), L.MaxPool1d(2), L.ConvTranspose1d(3, 1, 3, 2)), (2, 21)),
    "sequences, same": (chain(L.Conv1d(2, 2, 4, padding="same", dilation=2), L.AvgPool1d(3, 1, 1)), (2, 12)),
    "volumes": (chain(L.Conv3d(2, 2, (1, 2, 3), (1, 2, 1), padding=(0, 1, 2)), L.MaxPool3d(2)), (2, 4, 6, 5)),
    "volumes, transposed": (chain(L.AvgPool3d(2), L.ConvTranspose3d(2, 1, (1, 2, 3), 2)), (2, 4, 6, 5)),
    "no axes": (chain(L.Linear(4, 3), L.Softmax()), (4,)),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_what_changes_is_what_is_seen(name):
    check(*CASES[name])


def test_every_layer_stands_among_the_cases_or_cannot_be_told():
    kinds = {kind for name in L.__all__ if isinstance(kind := getattr(L, name), type) and issubclass(kind, L.Layer)}
    seen = {type(inner) for layer, _ in CASES.values() for _, inner in layer.walk()}
    alike = {L.ELU, L.GELU, L.SELU, L.SiLU, L.Tanh, L.Dropout2d, L.Sequential, L.ReLU, L.LeakyReLU}
    nowhere = analysis.see_through.dispatch(L.Layer)
    without = {kind for kind in kinds if analysis.see_through.dispatch(kind) is nowhere}
    assert without == {L.Layer, L.LSTM, L.Embedding}
    assert kinds - without - alike <= seen


@pytest.mark.parametrize(
    ("build", "size"),
    [
        (lambda: models.lenet5(), 32),
        (lambda: models.resnet20(width=2), 16),
        (lambda: models.unet(depth=2, width=2), 44),
        (lambda: models.unet(depth=2, width=2, padding="same", batch_norm=True), 20),
        (lambda: models.fcn(8, width=2, hidden=2, num_classes=2), 34),
        (lambda: models.shufflenet_v2(widths=(4, 8, 8, 8), stem_stride=1), 33),
        (lambda: models.densenet121(growth=2), 33),
        (lambda: models.se_resnet(18, width=2, small_stem=True), 16),
    ],
    ids=["lenet5", "resnet20", "unet", "unet, same", "fcn8s", "shufflenet_v2", "densenet121", "se_resnet"],
)
def test_networks_see_what_changes_their_outputs(build, size):
    """Linear stand-ins for what might hide a change: it is the geometry that counts."""
    network = build()
    for _, inner in list(network.walk()):
        children = dict(inner.children())
        for name, child in children.items():
            if isinstance(child, L.ReLU | L.Sigmoid | L.BatchNorm2d | L.Dropout):
                inner[name] = L.Identity()
            elif isinstance(child, L.MaxPool2d):
                inner[name] = L.AvgPool2d(child.kernel_size, child.stride, child.padding, child.ceil_mode)
    rng = np.random.default_rng(0)
    for parameter in network.parameters().values():  # positive, so that nothing cancels, and scaled to the sum
        parameter.data = rng.uniform(0.5, 1.5, parameter.shape) / max(1, np.prod(parameter.shape[1:]))
    network.astype(np.float64).eval()
    shape = (network.input_shape[0], size, size)
    field = analysis.receptive_field(network, shape)
    outputs = network.output_shape(shape)
    rows = [0, outputs[1] // 2, outputs[1] - 1] if len(outputs) == 3 else [None]
    for row in rows:
        network.train()
        x = rng.uniform(1, 2, (1, *shape))
        gradient = np.zeros_like(network(x))
        gradient[(0, slice(None), row) if row is not None else (0,)] = 1
        there = (network.backward(gradient) != 0).any(axis=(0, 1))
        seen = np.flatnonzero(there.any(axis=1))
        axis = field.axes[0]
        index = 0 if row is None else row
        assert (axis.first[index], axis.last[index]) == (seen[0], seen[-1])


HAND = [
    ("three of 3x3", [C(1, 1, 3)] * 3, 7, 1, 0),
    ("AlexNet's last pooling", [C(1, 1, 11, 4), L.MaxPool2d(3, 2), C(1, 1, 5, padding=2), L.MaxPool2d(3, 2),
                               *[C(1, 1, 3, padding=1)] * 3, L.MaxPool2d(3, 2)], 195, 32, -64),
    ("dilations 1, 2, 4", [C(1, 1, 3, dilation=d) for d in (1, 2, 4)], 15, 1, 0),
]  # fmt: skip


@pytest.mark.parametrize(("name", "layers", "size", "jump", "start"), HAND, ids=[row[0] for row in HAND])
def test_by_hand(name, layers, size, jump, start):
    layers = [type(layer)(**vars_of(layer)) for layer in layers]
    field = analysis.receptive_field(L.Sequential(layers), (1, 400, 400))
    assert (field.size, field.jump, field.start) == ((size,) * 2, (jump,) * 2, (start,) * 2)


def vars_of(layer):
    """Return the arguments that make another layer like this one."""
    names = ("in_channels", "out_channels", "kernel_size", "stride", "padding", "dilation")
    return {name: getattr(layer, name) for name in names if hasattr(layer, name)}


# VGG and MobileNet as in Araujo, Norris and Sim (2019). ResNets by hand, strides in the 3x3 convolutions: the blocks of
# ResNet-50 add 3 x 8, 8 + 3 x 16, 16 + 5 x 32 and 32 + 2 x 64 to the 11 of the first layers.
KNOWN = [
    ("vgg16", "features.28", 196, 16),
    ("vgg16", "features.30", 212, 32),
    ("mobilenet_v1", "block13", 315, 32),
    ("resnet18", "layer4", 435, 32),
    ("resnet50", "layer4", 11 + 3 * 8 + 8 + 3 * 16 + 16 + 5 * 32 + 32 + 2 * 64, 32),
]


@pytest.mark.parametrize(("model", "name", "size", "jump"), KNOWN)
def test_published_sizes(model, name, size, jump):
    field = analysis.receptive_field(getattr(models, model)(), name=name)
    assert (field.size[0], field.jump[0]) == (size, jump)


@pytest.mark.parametrize("seed", range(20))
def test_stacked_windows_follow_the_formula(seed):
    """Far from the edges, exact regions have the formula's size and lie its jump apart."""
    rng = np.random.default_rng(seed)
    windows, layers = [], []
    for _ in range(4):
        kernel, stride, dilation = (int(rng.integers(1, most)) for most in (5, 3, 4))
        padding = int(rng.integers(0, dilation * (kernel - 1) // 2 + 1))
        windows.append((kernel, stride, padding, dilation))
        layers.append(C(1, 1, kernel, stride, padding, dilation))
    size, jump, start = analysis.stack_windows(windows)
    field = analysis.receptive_field(L.Sequential(layers), (1, 200, 200))
    assert (field.size[0], field.jump[0], field.start[0]) == (size, jump, start)
    axis = field.axes[0]
    inner = [i for i in range(len(axis.first)) if start + i * jump >= 0 and start + i * jump + size <= 200]
    assert inner
    for i in inner:
        assert field.region((i, i))[0] == slice(start + i * jump, start + i * jump + size)


def test_upsampling_halves_the_jump():
    field = analysis.receptive_field(chain(C(1, 1, 3), L.ConvTranspose2d(1, 1, 4, 2, 1)), (1, 12, 12))
    assert (field.size, field.jump, field.start) == ((4, 4), (0.5, 0.5), (-1, -1))
    thirds = analysis.receptive_field(L.Upsample(scale_factor=3), (1, 12, 12))
    assert (thirds.size, thirds.jump, thirds.start) == ((1, 1), (1 / 3, 1 / 3), (0, 0))
    holes = analysis.receptive_field(L.ConvTranspose2d(1, 1, 1, 2, padding=1), (1, 12, 12))
    assert (holes.size, holes.jump, holes.start) == ((1, 1), (0.5, 0.5), (None, None))


def test_what_has_no_pattern_has_no_jump():
    unlike = analysis.receptive_field(*CASES["branches of unlike strides"])
    assert unlike.jump == (None, None)
    assert unlike.size == (6, 6)  # the third output sees 8 to 10 and 6 to 11, the fourth 12 to 14 and 9 to 14
    whole = analysis.receptive_field(*CASES["global pooling"])
    assert (whole.size, whole.jump, whole.start) == ((13, 10), (0, 0), (0, 0))


def test_patterns_that_never_repeat_are_given_up():
    field = analysis.receptive_field(chain(L.Upsample((997, 997)), L.Upsample((1009, 1009))), (1, 991, 991))
    assert field.jump == (991 / 1009,) * 2
    layers = [L.Upsample((997, 997)), C(1, 1, 3, 2), L.Upsample((1009, 1009)), C(1, 1, 3, 2), L.Upsample((503, 503))]
    field = analysis.receptive_field(L.Sequential(layers), (1, 991, 991))
    assert field.jump == (None, None)
    assert field.start == (0, 0)
    assert field.region((502, 0))[0].stop > 980
    branches = L.Branches([L.Upsample((1009, 1009)), chain(L.Upsample((997, 997)), L.Upsample((1009, 1009)))])
    assert analysis.receptive_field(branches, (1, 991, 991)).jump == (991 / 1009,) * 2


def test_of_images_too_large_for_it_the_rest_is_told():
    line = str(analysis.summary(C(1, 1, 3), (1, 2**31 - 1, 3))).splitlines()[2]
    assert line.split()[-1] == "?"
    assert "19,327,352,805" in line


def test_fields_of_layers_inside():
    network = Network({"a": C(1, 1, 3), "b": L.Residual(chain(C(1, 1, 3, padding=1), L.ReLU()))}, input_shape=(1, 9, 9))
    fields = analysis.receptive_fields(network)
    assert {name: str(field) for name, field in fields.items()} == {
        "a": "3x3", "b.body.0": "5x5", "b.body.1": "5x5", "b.body": "5x5", "b.shortcut": "3x3", "b": "5x5", "": "5x5",
    }  # fmt: skip
    assert analysis.receptive_field(network, name="b.shortcut").size == (3, 3)
    assert repr(fields["a"]) == "ReceptiveField(size=(3, 3), jump=(1.0, 1.0), start=(0, 0))"
    assert fields["a"].region((6, 0)) == (slice(6, 9), slice(0, 3))
    assert analysis.receptive_field(C(1, 1, 1, padding=2), (1, 3, 3)).region((0, 3)) == (slice(0, 0),) * 2


def test_a_region_of_many_is_inside_the_image():
    field = analysis.receptive_field(models.resnet18())
    for name, inner in analysis.receptive_fields(models.resnet18()).items():
        for i, j in itertools.product(range(0, len(inner.axes[0].first), 5), repeat=2):
            rows, columns = inner.region((i, j))
            assert 0 <= rows.start < rows.stop <= 224, name
            assert 0 <= columns.start < columns.stop <= 224, name
    assert field.size == (224, 224)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: analysis.receptive_field(None), TypeError, "receptive_field: `layer` must be a layer or network, got"),
        (lambda: analysis.receptive_field(C(1, 1, 3)), ValueError, "receptive_field: the network needs an `input_shap"),
        (lambda: analysis.receptive_field(C(1, 1, 3), (1, 2, 2)), ValueError, "the padded input is smaller than the"),
        (
            lambda: analysis.receptive_field(C(1, 1, 3), (1, 8, 8), name="0"),
            ValueError,
            "receptive_field: `name` must be that of a layer, as in `trace`, got '0'",
        ),
        (
            lambda: analysis.receptive_field(chain(C(1, 1, 3), Scale()), (1, 8, 8)),
            TypeError,
            r"receptive_field: there is no rule for Scale; for a layer of your own give one with `cyconv\.analysis\.se",
        ),
        (lambda: analysis.receptive_field(L.LSTM(3, 2), (5, 3)), TypeError, "there is no rule for LSTM"),
        (
            lambda: analysis.receptive_field(C(1, 1, 3), (1, 2**31 - 1, 3)),
            ValueError,
            r"receptive_field: there may be at most 4194304 positions along an axis, `input_shape` is \(1, 2147483647,",
        ),
        (lambda: analysis.receptive_fields(1, (5, 3)), TypeError, "receptive_fields: `layer` must be a layer"),
        (
            lambda: analysis.receptive_field(C(1, 1, 3), (1, 8, 8)).region(1),
            ValueError,
            "region: `position` must have 2 numbers, got 1",
        ),
        (
            lambda: analysis.receptive_field(C(1, 1, 3), (1, 8, 8)).region((0, 6)),
            ValueError,
            "region: `position` must be at most 5, got 6",
        ),
        (lambda: analysis.stack_windows([3]), ValueError, r"stack_windows: `windows` must be \(kernel_size, stride, p"),
        (lambda: analysis.stack_windows([(3, 0)]), ValueError, "stack_windows: `stride` must be at least 1, got 0"),
    ],
)
def test_bad_arguments_are_named(call, error, message):
    with pytest.raises(error, match=message):
        call()
