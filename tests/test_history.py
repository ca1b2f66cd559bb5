import json
import math

import numpy as np
import pytest

from cyconv.history import History

NUMBERS = [0.1 + 0.2, -0.0, 1e-320, math.nan, math.inf, -math.inf, 3]


def refuse(name):
    raise AssertionError(f"{name} is no JSON")


def test_files_are_standard_json_and_hold_the_history_exactly(tmp_path):
    history = History([{"loss": number, "val_loss": 1.0} for number in NUMBERS])
    history.interrupted = True
    history.save(tmp_path / "a")
    content = json.loads((tmp_path / "a").read_text(), parse_constant=refuse)
    assert [epoch["loss"] for epoch in content["epochs"][3:6]] == ["NaN", "Infinity", "-Infinity"]
    loaded = History.load(tmp_path / "a")
    assert repr(loaded.epochs) == repr(history.epochs)
    assert loaded.interrupted


def test_numbers_of_numpy_are_saved(tmp_path):
    History([{"loss": np.float32(0.5), "count": np.int64(3)}]).save(tmp_path / "a")
    assert History.load(tmp_path / "a").epochs == [{"loss": 0.5, "count": 3}]


def test_files_with_bare_nan_are_read(tmp_path):
    (tmp_path / "a").write_text('{"epochs": [{"loss": NaN}, {"loss": -Infinity}], "interrupted": false}')
    first, second = History.load(tmp_path / "a")["loss"]
    assert math.isnan(first)
    assert second == -math.inf


@pytest.mark.parametrize("text", ["", "{}", "[" * 100_000, '{"epochs": 3, "interrupted": 0}', "\xff", '{"epochs": []}'])
def test_other_files_are_refused(tmp_path, text):
    (tmp_path / "a").write_bytes(text.encode("latin1"))
    with pytest.raises(ValueError, match=r"History\.load: .* is not a saved history"):
        History.load(tmp_path / "a")
