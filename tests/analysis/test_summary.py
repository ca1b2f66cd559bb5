import numpy as np
import pytest

from cyconv import Network, analysis, models
from cyconv import layers as L
from tests.analysis.test_counts import Scale


def test_rows_agree_with_what_the_layers_return():
    network = Network(
        {
            "conv": L.Conv2d(1, 4, 3, padding=1),
            "block": L.Residual(L.Conv2d(4, 4, 3, padding=1, bias=False)),
            "pool": L.MaxPool2d(2),
            "flatten": L.Flatten(),
            "linear": L.Linear(64, 3),
        },
        input_shape=(1, 8, 8),
    )
    table = analysis.summary(network)
    assert [row.name for row in table.rows] == [
        "conv", "block.body", "block.shortcut", "block", "pool", "flatten", "linear",
    ]  # fmt: skip
    assert [row.kind for row in table.rows][3] == "Residual"
    x = np.zeros((1, 1, 8, 8), np.float32)
    for row in (row for row in table.rows if "." not in row.name):
        x = network[row.name](x)
        assert x.shape[1:] == row.output_shape
        assert x.nbytes == row.memory
    assert [row.parameters for row in table.rows] == [40, 144, 0, 0, 0, 0, 195]
    assert [row.flops for row in table.rows] == [64 * 36, 64 * 144, 0, 0, 0, 0, 192]
    assert [row.receptive_field.size for row in table.rows[:5]] == [(3, 3), (5, 5), (3, 3), (5, 5), (6, 6)]
    assert table.parameters == 379 == analysis.count_parameters(network)
    assert table.flops == analysis.count_flops(network) == sum(row.flops for row in table.rows)
    assert table.memory == sum(row.memory for row in table.rows)
    assert analysis.summary(network, dtype=np.float64).memory == 2 * table.memory
    assert str(table) == network.summary()


def test_bytes_are_those_of_the_networks_numbers():
    network = Network([L.Linear(4, 2)], input_shape=(4,)).astype(np.float64)
    assert network.summary().endswith("10 parameters, 8 multiply-adds, 16 bytes of outputs")


def test_what_is_not_known_is_marked():
    table = analysis.summary(L.Sequential(L.Conv2d(1, 2, 3), Scale(), L.ReLU()), (1, 8, 8))
    assert [row.flops for row in table.rows] == [2 * 36 * 9, None, 0]
    assert [row.receptive_field is None for row in table.rows] == [False, True, True]
    assert table.flops is None
    lines = str(table).splitlines()
    assert lines[3].split() == ["1", "Scale", "(2,", "6,", "6)", "0", "?", "288", "?"]
    assert lines[-1] == "20 parameters, ? multiply-adds, 864 bytes of outputs"


def test_layers_beside_the_way_take_nothing_when_predicting():
    rows = {row.name: row for row in analysis.summary(models.googlenet(auxiliary=True)).rows}
    beside = [row for name, row in rows.items() if "aux" in name]
    assert beside
    assert not any(row.flops for row in beside)
    assert any(row.parameters for row in beside)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: analysis.summary(3), TypeError, "summary: `layer` must be a layer or network, got 3"),
        (lambda: analysis.summary(L.ReLU()), ValueError, "summary: the network needs an `input_shape`"),
        (lambda: analysis.summary(L.ReLU(), (3,), int), TypeError, "summary: `dtype` must be float32 or float64"),
    ],
)
def test_bad_arguments_are_named(call, error, message):
    with pytest.raises(error, match=message):
        call()
