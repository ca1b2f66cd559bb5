import json
import math

import numpy as np
import pytest

import cyconv
from cyconv import nas
from cyconv.data import digits
from cyconv.history import History
from cyconv.nas import Candidate, Controller, MacroSpace, MicroSpace, SearchResult, enas, search

DATA = digits()
X, Y = DATA.train_x[:96], DATA.train_y[:96]
HELD_OUT = DATA.test_x[:64], DATA.test_y[:64]
TINY = {"epochs": 2, "channels": 2, "controller_steps": 2, "candidates": 3, "batch_size": 32, "progress": False}


def tiny(space, seed=0, **options):
    return search(space, X, Y, validation_data=HELD_OUT, seed=seed, **{**TINY, **options})


def found(result):
    """All but the times."""
    epochs = [{name: value for name, value in each.items() if name != "seconds"} for each in result.history.epochs]
    return result.candidates, epochs


@pytest.mark.parametrize("space", [MicroSpace(nodes=1), MacroSpace(layers=4)], ids=["micro", "macro"])
def test_a_search_is_the_same_for_any_number_of_threads(space, small_work_threaded):
    with cyconv.num_threads(1):
        one = found(tiny(space))
    with cyconv.num_threads(3):
        several = found(tiny(space))
    assert one == several
    assert found(tiny(space, seed=1)) != one


def test_results_hold_what_was_found_and_how():
    result = tiny(MicroSpace(nodes=1), candidates=6)
    first, second = result.history.epochs
    assert {*first} == {"loss", "accuracy", "seconds"}  # the controller waits for a third of the search
    assert {*second} == {"loss", "accuracy", "reward", "baseline", "entropy", "seconds"}
    accuracies = [candidate.accuracy for candidate in result.candidates]
    assert accuracies == sorted(accuracies, reverse=True)
    assert result.best == result.candidates[0].architecture
    assert len({candidate.architecture for candidate in result.candidates}) == len(result.candidates) <= 6
    network = nas.build(result.best, (1, 8, 8), 10, channels=2, seed=0)
    assert network.predict(HELD_OUT[0]).shape == (64, 10)


def test_names_stand_for_spaces_and_images_may_lack_their_channel():
    options = {**TINY, "epochs": 1, "controller_steps": 1, "candidates": 1, "progress": False}
    held_out = HELD_OUT[0][:, 0].astype(np.float32) / 255, HELD_OUT[1]
    result = search("macro", X[:, 0].astype(np.float32) / 255, Y, validation_data=held_out, seed=0, **options)
    assert len(result.best.layers) == 6
    assert found(result) == found(search(MacroSpace(6), X, Y, validation_data=HELD_OUT, seed=0, **options))


def test_shared_weights_learn():
    """From chance to far better, though each batch trains another child."""
    options = {**TINY, "epochs": 4, "channels": 8, "controller_steps": 1}
    result = search(MicroSpace(1), DATA.train_x, DATA.train_y, validation_data=HELD_OUT, seed=0, **options)
    assert result.history["accuracy"][0] < 0.5
    assert result.history["accuracy"][-1] > 0.6
    assert result.candidates[0].accuracy > 0.6


def test_the_controller_learns_by_what_its_samples_are_worth(monkeypatch):
    """Rewarded for identities, it leads to cells full of them."""

    def identities(architecture):
        return np.mean([name == "identity" for node in architecture.normal for name in node.operations])

    monkeypatch.setattr(enas._Search, "judge", lambda self, architecture, batches: identities(architecture))
    controller = Controller(MicroSpace(2).decisions, rng=0, learning_rate=0.01)
    result = tiny(MicroSpace(2), controller=controller, epochs=1, controller_steps=80, candidates=20)
    assert np.mean([identities(candidate.architecture) for candidate in result.candidates]) > 0.6
    assert result.history["baseline"][0] > 0.4
    assert controller.sample().shape == (1, 16)


def test_a_given_controller_goes_on_learning():
    controller = Controller(MicroSpace(1).decisions, rng=0)
    before = controller.policy.state_dict()["head.weight"].copy()
    tiny(MicroSpace(1), controller=controller, epochs=1)
    assert controller.baseline is not None
    assert not np.array_equal(controller.policy.state_dict()["head.weight"], before)


def test_a_search_ends_in_time():
    result = tiny(MicroSpace(1), epochs=10**6, seconds=1e-9)
    assert len(result.history) == 1


def test_a_bar_shows_how_far_it_is(capsys):
    tiny(MicroSpace(1), epochs=1, progress=True)
    assert "reward=" in capsys.readouterr().err


def test_the_data_is_left_as_it_is():
    x, y = X.copy(), Y.copy()
    x.flags.writeable = y.flags.writeable = False
    search(MicroSpace(1), x, y, validation_data=(x, y), seed=0, **TINY)


def test_results_come_back_from_a_file(tmp_path):
    epochs = [{"loss": 1.5, "reward": 0.25}, {"loss": math.inf, "reward": math.nan}]
    candidates = [Candidate(MicroSpace(2).sample(0), 0.75), Candidate(MacroSpace(3).sample(1), 0.5)]
    SearchResult(candidates, History(epochs)).save(tmp_path / "found.json")
    loaded = SearchResult.load(tmp_path / "found.json")
    assert loaded.candidates == candidates
    assert repr(loaded.history.epochs) == repr(epochs)
    json.loads((tmp_path / "found.json").read_text(), parse_constant=pytest.fail)  # NaN is no JSON
    assert [path.name for path in tmp_path.iterdir()] == ["found.json"]


GOOD = {"candidates": [{"accuracy": 0.5, **MicroSpace(1).sample(0).as_dict()}], "epochs": []}


@pytest.mark.parametrize(
    "content",
    [
        "not JSON",
        "[" * 10**5,
        [],
        {},
        {**GOOD, "epochs": None},
        {**GOOD, "candidates": []},
        {**GOOD, "candidates": 3},
        {**GOOD, "candidates": [{**GOOD["candidates"][0], "accuracy": "high"}]},
        {**GOOD, "candidates": [{**GOOD["candidates"][0], "accuracy": 7}]},
        {**GOOD, "candidates": [{**GOOD["candidates"][0], "normal": 1}]},
        {**GOOD, "candidates": [{"accuracy": 0.5}]},
    ],
    ids=lambda content: str(content)[:60],
)
def test_other_files_are_refused(tmp_path, content):
    path = tmp_path / "found.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    with pytest.raises(ValueError, match=r"SearchResult.load: .*found.json'?\)? is not a saved search"):
        SearchResult.load(path)


def test_missing_files_are_the_systems_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        SearchResult.load(tmp_path / "none.json")
    with pytest.raises(TypeError, match=r"SearchResult.load: `path` must be a str or a path, got 3"):
        SearchResult.load(3)
    with pytest.raises(TypeError, match=r"SearchResult.save: `path` must be a str or a path, got 3"):
        SearchResult([Candidate(MicroSpace(1).sample(0), 1.0)]).save(3)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"space": "nano"}, ValueError, "search: `space` must be one of 'micro', 'macro', got 'nano'"),
        ({"space": 3}, ValueError, "search: `space` must be one of 'micro', 'macro', got 3"),
        ({"x": X[0, 0]}, ValueError, r"search: `x` must have shape \(N, C, H, W\) or \(N, H, W\), got \(8, 8\)"),
        ({"x": X.astype(np.int64)}, TypeError, "`x` must be uint8, float32 or float64, got int64"),
        ({"x": X[:1], "y": Y[:1]}, ValueError, "search: there must be two images at least, and a class for each"),
        ({"y": Y[:9]}, ValueError, r"search: there must be two images .* \(96, 1, 8, 8\) and `y` of shape \(9,\)"),
        ({"y": Y / 2}, TypeError, "search: `y` must be integers, got float64"),
        ({"y": Y - 5}, ValueError, "search: `y` must be classes from 0, got -5"),
        ({"validation_data": X}, TypeError, r"search: `validation_data` must be a pair \(x, y\), got ndarray"),
        (
            {"validation_data": (X[:, :, 1:], Y)},
            ValueError,
            r"search: `validation_data` must have images of \(1, 8, 8\) as `x`, got \(1, 7, 8\)",
        ),
        ({"validation_data": (X, Y / 2)}, TypeError, "search: validation_data: `y` must be integers, got float64"),
        ({"epochs": 0}, ValueError, "search: `epochs` must be at least 1, got 0"),
        ({"seconds": 0}, ValueError, "search: `seconds` must be above 0, got 0"),
        ({"batch_size": 1}, ValueError, "search: `batch_size` must be at least 2, got 1"),
        ({"channels": 0}, ValueError, "search: `channels` must be at least 1, got 0"),
        ({"cells": 0}, ValueError, "search: `cells` must be at least 1, got 0"),
        ({"space": "macro", "cells": 2}, ValueError, "search: `cells` must be None for the macro space, got 2"),
        ({"controller_steps": 0}, ValueError, "search: `controller_steps` must be at least 1, got 0"),
        ({"candidates": 0}, ValueError, "search: `candidates` must be at least 1, got 0"),
        ({"learning_rate": -1}, ValueError, "SGD: `learning_rate` must be at least 0, got -1"),
        ({"controller": "lstm"}, TypeError, "search: `controller` must be a Controller, got 'lstm'"),
        (
            {"controller": Controller(MicroSpace(3).decisions)},
            ValueError,
            r"search: `controller` must have the decisions of MicroSpace\(nodes=1\)",
        ),
        ({"seed": "x"}, TypeError, "search: `seed` must be an integer, a numpy.random.Generator or None, got 'x'"),
        ({"progress": 1}, TypeError, "search: `progress` must be True or False, got 1"),
    ],
)
def test_search_refuses(change, error, message):
    arguments = {"space": MicroSpace(1), "x": X, "y": Y, "validation_data": HELD_OUT, **TINY, **change}
    with pytest.raises(error, match=message):
        search(arguments.pop("space"), arguments.pop("x"), arguments.pop("y"), **arguments)


def test_data_that_spoils_the_loss_is_an_error():
    x = X.astype(np.float32)
    x[5] = np.nan
    with pytest.raises(FloatingPointError, match="train_step: the loss is nan"):
        search(MicroSpace(1), x, Y, validation_data=HELD_OUT, seed=0, **TINY)
