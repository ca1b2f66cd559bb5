"""The benchmarks compare like with like, and say so where they cannot."""

import json
import statistics
import sys

import numpy as np
import pytest

import cyconv
from benchmarks import __main__, callers, driver, operations, plot, report, shapes, tune
from benchmarks.libraries import LEARNING_RATE, MOMENTUM, operations_of_cyconv, with_cyconv, with_scipy
from benchmarks.libraries.data import labels, normal
from benchmarks.libraries.numpy_lenet5 import LeNet5
from cyconv import functional as F
from cyconv import models
from cyconv.functional import _correlation
from cyconv.functional.conv import planned
from cyconv.losses import CrossEntropyLoss
from cyconv.models import lenet5
from cyconv.optimizers import SGD
from cyconv.training import train_step


def test_no_two_cases_of_a_kind_share_a_label():
    for kind in driver.KINDS:
        found = [case.label for case in driver.cases([kind], "")]
        assert found
        assert len(found) == len(set(found))


@pytest.mark.parametrize("group", shapes.CONVOLUTION_GROUPS)
def test_every_row_of_the_summary_has_layers(group):
    assert any(group in layer.groups_of_table for layer in shapes.CONVOLUTIONS)


def test_a_layer_is_of_the_size_that_its_operations_are_counted_for():
    for layer in shapes.CONVOLUTIONS:
        IC, OC, size = layer.in_channels, layer.out_channels, layer.size
        x = np.broadcast_to(np.float32(0), (0, IC, size, size))  # of no images: only the shape counts
        if layer.transposed:
            weight = np.broadcast_to(np.float32(0), (IC, OC // layer.groups, layer.kernel, layer.kernel))
            options = (layer.stride, layer.padding, layer.output_padding, layer.groups)
            out, positions = F.conv_transpose2d(x, weight, None, *options), size**2
        else:
            weight = np.broadcast_to(np.float32(0), (OC, IC // layer.groups, layer.kernel, layer.kernel))
            out = F.conv2d(x, weight, None, layer.stride, layer.padding, 1, layer.groups)
            positions = out.shape[2] * out.shape[3]
        assert out.shape[1:] == (OC, layer.out_size, layer.out_size)
        assert layer.operations == 2 * layer.batch * weight.size * positions
        images = layer.batch * (IC * size**2 + OC * layer.out_size**2)
        assert layer.traffic("forward") == 4 * (images + weight.size)


def test_operations_of_a_network_are_those_of_its_layers():
    _, parameters, operations = with_cyconv._network("LeNet-5", (1, 32, 32), 10)
    assert parameters == 61706
    convolutions = 2 * 28 * 28 * 6 * 25 + 2 * 10 * 10 * 16 * 150
    assert operations == convolutions + 2 * (400 * 120 + 120 * 84 + 84 * 10)


def test_the_numpy_baseline_takes_the_same_training_steps():
    network, plain = lenet5(seed=0), LeNet5(1, 10)
    mine = list(network.parameters().values())
    for weight, bias, layer in zip(mine[::2], mine[1::2], plain.trained, strict=True):
        layer.weight[...] = np.asarray(weight.data).reshape(len(weight.data), -1).T
        layer.bias[...] = bias.data
    x, y = normal(8, 1, 32, 32), labels((8,), 10)
    loss, optimizer = CrossEntropyLoss(), SGD(LEARNING_RATE, momentum=MOMENTUM)
    for _ in range(3):
        assert plain.step(x, y) == pytest.approx(train_step(network, x, y, loss, optimizer)[0], rel=1e-5)
    for weight, bias, layer in zip(mine[::2], mine[1::2], plain.trained, strict=True):
        own = np.asarray(weight.data).reshape(len(weight.data), -1).T
        np.testing.assert_allclose(layer.weight, own, rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(layer.bias, bias.data, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("network", shapes.TRAINED, ids=lambda network: network.network)
def test_pytorch_has_the_same_network(network):
    pytest.importorskip("torch")
    from benchmarks.libraries.torch_networks import NETWORKS

    peer = NETWORKS[network.network](network.input_shape[0], network.classes)
    _, parameters, _ = with_cyconv._network(network.network, network.input_shape, network.classes)
    assert parameters == sum(parameter.numel() for parameter in peer.parameters())


@pytest.mark.parametrize(
    ("name", "options", "shape"),
    [
        ("alexnet", {"hidden": 32}, (3, 99, 99)),
        ("googlenet", {}, (3, 64, 64)),
        ("resnet18", {"width": 8}, (3, 64, 64)),
        ("resnet_v2", {}, (3, 64, 64)),
        ("densenet121", {}, (3, 64, 64)),
        ("se_resnet50", {}, (3, 64, 64)),
        ("xception", {}, (3, 71, 71)),
        ("shufflenet_v1", {}, (3, 64, 64)),
        ("shufflenet_v2", {}, (3, 64, 64)),
        ("fcn8s", {}, (3, 64, 96)),
        ("unet", {}, (1, 188, 188)),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_the_translation_computes_the_same(name, options, shape):
    torch = pytest.importorskip("torch")
    from benchmarks.libraries.torch_models import as_torch

    options = {"num_classes": 10, "in_channels": shape[0], "input_size": shape[1:], **options}
    network, x = getattr(models, name)(**options, seed=0), normal(2, *shape)
    for parameter in network.parameters().values():  # some are zero at first
        parameter.data += 0.01 * normal(*parameter.data.shape, seed=1)
    with torch.no_grad():
        expected = as_torch(network).eval()(torch.from_numpy(x)).numpy()
    np.testing.assert_allclose(network.predict(x), expected, atol=1e-4 * np.abs(expected).max(), rtol=1e-3)


def test_every_function_with_a_gradient_is_measured():
    """But for those that another one's kernels run, or that only arrange memory."""
    same = {"log_softmax", "selu", "instance_norm", "lstm_cell", "dropout2d", "convolve2d", "batch_norm_relu"}
    same |= {f"{kind}_pool{n}d" for kind in ("adaptive_avg", "adaptive_max", "global_avg") for n in (1, 2, 3)}
    same |= {"max_unpool1d", "max_unpool3d", "flatten", "maxout", "prelu"}
    measured = {operation.op for operation in operations.OPERATIONS} | same | {"weight_norm"}
    measured |= {"conv2d", "conv_transpose2d", "max_pool2d", "avg_pool2d", "batch_norm"}  # kinds of their own
    differentiable = {name.removesuffix("_backward") for name in F.__all__ if name.endswith("_backward")}
    assert differentiable <= measured


@pytest.mark.parametrize("operation", operations.OPERATIONS, ids=lambda operation: operation.label)
def test_pytorch_does_the_same_operation(operation):
    pytest.importorskip("torch")
    from benchmarks.libraries import operations_of_torch

    small = operation._replace(shape=tuple(min(extent, 32) for extent in operation.shape))
    own = operations_of_cyconv.prepare(**small._asdict()).functions
    for channels_last in (False, True):
        peer = operations_of_torch.prepare(channels_last, **small._asdict()).functions
        assert list(own) == list(peer)
        for direction in own:
            results = [functions[direction]() for functions in (own, peer)]
            if operation.op.startswith("max_pool") and direction == "forward":
                results[0], _ = results[0]  # where the maxima were, which a layer stores, is in no form of PyTorch's
            results = [_arrays(each) for each in results]
            if operation.op == "im2col":  # a row a position there, a column here
                if direction == "backward":
                    continue
                results[1] = [columns.transpose(0, 2, 1).reshape(results[0][0].shape) for columns in results[1]]
            if operation.op in ("dropout", "lstm") or operation.family == "optimizers":  # random numbers of their own
                continue
            for mine, other in zip(*results, strict=True):
                assert mine.shape == other.shape
                np.testing.assert_allclose(mine, other, rtol=1e-3, atol=1e-4 * (np.abs(other).max() + 1))


def _arrays(result) -> list[np.ndarray]:
    """Return what a function gave as arrays, without what it was not asked for."""
    results = result if isinstance(result, tuple | list) else [result]
    return [np.asarray(each.detach() if hasattr(each, "detach") else each) for each in results if each is not None]


@pytest.mark.parametrize("filtering", shapes.FILTERS, ids=lambda filtering: filtering.label)
def test_scipy_filters_in_the_same_way(filtering):
    """But for its rounding of uint8 towards zero, after each pass, and its going round where that cannot hold it."""
    small = filtering._replace(size=40)._asdict()
    own, peer = (library._image(**small).functions["forward"]() for library in (with_cyconv, with_scipy))
    assert own.shape == peer.shape
    assert own.dtype == peer.dtype
    assert filtering.traffic("forward") == 2048**2 * filtering.channels * (
        np.dtype(filtering.dtype).itemsize + own.itemsize
    )
    if own.dtype == np.uint8:
        apart = own.astype(int) - peer
        kept = (own > 0) & (own < 255)
        assert (np.minimum(apart % 256, -apart % 256)[kept] <= 2).all()
    else:
        np.testing.assert_allclose(own, peer, rtol=1e-5, atol=1e-3)


@pytest.mark.parametrize("threshold", tune.THRESHOLDS, ids=lambda threshold: threshold.name)
def test_thresholds_that_are_explained_exist(threshold):
    assert isinstance(getattr(threshold.module, threshold.name), int)


def test_another_value_of_a_threshold_is_set_for_a_while_only():
    before = cyconv.threads.GRAIN
    with tune.setting(cyconv.threads, "GRAIN", 7):
        assert cyconv.threads.GRAIN == 7
    assert before == cyconv.threads.GRAIN


def test_both_sides_of_a_threshold_are_taken():
    x, weight = np.zeros((1, 16, 8, 8), np.float32), np.zeros((16, 16, 3, 3), np.float32)

    def kind():
        _, plan = planned("conv2d", x, weight, None, 1, 1, 1, 1)
        return type(plan.forward).__name__

    assert kind() == "Direct"
    with tune.setting(_correlation, "LEAST_TILES", 0):
        assert kind() == "Winograd"
    with tune.setting(_correlation, "FEW_CHANNELS", 16):
        assert kind() == "Planes"
    assert kind() == "Direct"


@pytest.fixture(scope="module")
def result():
    """Return a run on two small cases, with NumPy beside."""
    workers = driver.start(["numpy"], 1, sys.executable)
    rows = []
    for kind, only in (("conv", "LeNet-5 5x5 6-16"), ("predict", "LeNet-5 @32 n1")):
        for case in driver.cases([kind], only):
            rows += driver.measure(workers, case, rounds=2)
    descriptions = {name: worker.description for name, worker in workers.items()}
    for worker in workers.values():
        worker.stop()
    peaks = {"fma_peak": 100.0, "memory_peaks": {"read": 10.0}}
    return {"threads": 1, **peaks, "libraries": descriptions, "rows": rows}


def test_a_row_holds_what_was_measured(result):
    assert [row["direction"] for row in result["rows"]] == ["forward", "grad_input", "grad_weight", "predict"]
    for row in result["rows"]:
        assert row["failed"] == {}
        assert {name: len(seconds) for name, seconds in row["seconds"].items()} == {"cyconv": 2, "numpy": 2}
        pairs = zip(row["seconds"]["numpy"], row["seconds"]["cyconv"], strict=True)
        assert row["ratios"] == {"numpy": statistics.median(theirs / own for theirs, own in pairs)}
        assert row["gflops"] * statistics.median(row["seconds"]["cyconv"]) * 1e9 == pytest.approx(row["operations"])
    json.dumps(result)


def test_tables_and_pictures_show_it(result, tmp_path):
    for row in result["rows"]:
        assert report.line(row, result, ["numpy"]).startswith(row["label"])
    text = report.summary(result, ["torch", "numpy"])
    assert "| dense layers of VGG-16, ResNet-50, GoogLeNet, U-Net, LeNet-5 (1) | NumPy, im2col | " in text
    assert "| LeNet-5 @32 n1 | predict | " in text
    written = [path.name for path in plot.pictures([result], "this machine", tmp_path / "b.png")]
    assert written == ["b-conv.png", "b-roofline.png", "b-networks.png"]


def test_operations_are_measured_and_shown_like_layers(tmp_path):
    workers = driver.start([], 1, sys.executable)
    (case,) = driver.cases(["ops"], "linear 64x400")
    rows = list(driver.measure(workers, case, rounds=1))
    workers["cyconv"].stop()
    assert [row["direction"] for row in rows] == ["forward", "grad_input", "grad_weight"]
    assert all(row["seconds"]["cyconv"] and not row["failed"] for row in rows)
    for row in rows:
        row["ratios"]["torch"] = 2.0
    result = {"threads": 1, "fma_peak": 100.0, "memory_peaks": {"read": 10.0}, "rows": rows}
    assert report.line(rows[0], result, ["torch"]).endswith(" 2.00")
    assert "| linear, embedding, LSTM (1) | PyTorch's better layout | 2.00x (2.00) |" in report.summary(
        result, ["torch"]
    )
    assert [path.name for path in plot.pictures([result], "this machine", tmp_path / "b.png")] == ["b-ops.png"]


def test_a_worker_that_fails_is_reported_and_goes_on():
    worker = driver.Worker("cyconv", 1, sys.executable)
    layer = shapes.LENET5[0]._asdict()
    answer = worker.ask(do="prepare", kind="conv", parameters={**layer, "stride": 0})
    assert answer["failed"].startswith("ValueError: conv2d: `stride`")
    worker.process.kill()
    assert worker.ask(do="prepare", kind="conv", parameters=layer)["failed"].startswith("the process ended by signal 9")
    assert worker.ask(do="prepare", kind="conv", parameters=layer)["directions"]
    worker.stop()


def test_rounding_errors_are_measured_and_shown():
    workers = driver.start([], 1, sys.executable)
    (case,) = driver.cases(["accuracy"], "LeNet-5 5x5 6-16")
    rows = list(driver.measure_accuracy(workers, case))
    workers["cyconv"].stop()
    assert [row["direction"] for row in rows] == ["forward", "grad_input", "grad_weight"]
    for row in rows:
        assert set(row["errors"]) == {"exact", "default"}
        assert all(1e-8 < error < 1e-6 for error in row["errors"].values())
        assert report.accuracy_line(row).startswith("LeNet-5 5x5 6-16")
    rows[0]["ratios"] = {"exact": 0.5, "default": 2.0}
    table = report.accuracy_table({"rows": rows})
    assert "| cyconv.exact() (3) | " in table
    assert "| 0.50x, 0.50x on average |" in table


def test_memory_is_measured_in_a_fresh_process():
    (case,) = driver.cases(["memory"], "LeNet-5")
    row = driver.measure_memory(case, ["numpy"], 1, sys.executable)
    assert row["failed"] == {}
    for name in ("cyconv", "numpy"):
        assert row["memory"][name]["peak"] > row["memory"][name]["imported"] > 10 << 20
    assert "LeNet-5 @32 n64" in report.memory_line(row)
    assert "| LeNet-5 @32 n64 | cyconv | " in report.memory_table({"rows": [row]})


def test_unknown_kinds_and_peers_are_named(monkeypatch, capsys):
    for arguments, word in ((["layers"], "layers"), (["--peer", "jax"], "jax")):
        monkeypatch.setattr(sys, "argv", ["benchmarks", *arguments])
        with pytest.raises(SystemExit):
            __main__.main()
        assert f"'{word}' is none of" in capsys.readouterr().err


def test_callers_at_the_default_are_compared_with_the_best_fixed_number(monkeypatch):
    monkeypatch.setattr(callers, "BATCHES", (2,))
    monkeypatch.setattr(callers, "rate", lambda network, x, count: {None: 9.0, 1: 10.0, 2: 5.0}[count])
    with cyconv.num_threads(2):
        (row,) = callers.measure(rounds=1)
    assert row == {"batch": 2, "default": 18.0, "fixed": {1: 20.0, 2: 10.0}, "ratio": 0.9}
    assert callers.line(row).endswith("18 images/s at the default; 20 on 1, 10 on 2; default / best fixed 0.90")
