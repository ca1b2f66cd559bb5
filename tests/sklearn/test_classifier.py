import io
import pickle
from functools import partial

import numpy as np
import pytest

pytest.importorskip("sklearn")
import joblib
from scipy.stats import loguniform
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, RandomizedSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from cyconv import Network, models
from cyconv.data import digits
from cyconv.layers import Flatten, Linear
from cyconv.optimizers import SGD
from cyconv.schedules import LinearDecay, StepDecay
from cyconv.sklearn import ConvNetClassifier
from tests import processes

DATA = digits()
X, Y = DATA.train_x[:300], DATA.train_y[:300]
FLAT = X.reshape(len(X), -1).astype(np.float64) / 255
SMALL = ConvNetClassifier(channels=8, hidden=16, epochs=5, learning_rate=0.01, random_state=0)


def parts(network):
    return [type(layer).__name__ for layer in network.children().values()]


def test_learns_digits_in_any_form():
    """Bytes, floats, without the axis of channels, and as rows: it is the same data, so the same network comes out."""
    expected = clone(SMALL).fit(X, Y)
    assert expected.score(DATA.test_x, DATA.test_y) > 0.85
    floats = (X / 255).astype(np.float32)
    rows = clone(SMALL).set_params(input_shape=(1, 8, 8))
    for same, data in ((SMALL, X[:, 0]), (SMALL, floats), (SMALL, list(floats)), (rows, FLAT)):
        fitted = clone(same).fit(data, Y)
        assert fitted.input_shape_ == (1, 8, 8)
        assert fitted.n_features_in_ == 64
        np.testing.assert_array_equal(fitted.predict_proba(data), expected.predict_proba(X))


def test_rows_and_images_mean_the_same_when_predicting():
    fitted = clone(SMALL).fit(X, Y)
    np.testing.assert_array_equal(fitted.predict_proba(X.reshape(len(X), -1)), fitted.predict_proba(X))


def test_what_is_found():
    fitted = clone(SMALL).fit(X, Y)
    assert fitted.classes_.tolist() == list(range(10))
    assert fitted.n_iter_ == len(fitted.history_) == 5
    assert fitted.history_["accuracy"][-1] > fitted.history_["accuracy"][0]
    probabilities = fitted.predict_proba(X)
    assert probabilities.dtype == np.float64
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-12)
    np.testing.assert_array_equal(fitted.predict(X), fitted.classes_[probabilities.argmax(axis=1)])


def test_classes_may_be_text():
    names = np.array([f"digit {label}" for label in Y])
    np.testing.assert_array_equal(
        clone(SMALL).fit(X, names).predict(X), [f"digit {label}" for label in clone(SMALL).fit(X, Y).predict(X)]
    )


def test_the_default_network_follows_the_input():
    options = {"epochs": 1, "channels": (4, 6, 6, 6), "hidden": ()}
    images = ConvNetClassifier(**options).fit(X, Y).network_
    # 8x8 -> 4x4 -> 2x2 -> 1x1, which is not halved again
    assert parts(images) == ["Conv2d", "ReLU", "MaxPool2d"] * 3 + ["Conv2d", "ReLU", "Flatten", "Linear"]
    rows = ConvNetClassifier(**(options | {"hidden": 7})).fit(FLAT, Y).network_
    assert parts(rows) == ["Linear", "ReLU", "Linear"]


def flat_network(input_shape, num_classes, seed):
    return Network([Flatten(), Linear(int(np.prod(input_shape)), num_classes)], input_shape=input_shape, seed=seed)


def test_networks_by_name_function_and_object():
    enlarged = digits(28).train_x[:60]
    for network in ("lenet5", models.lenet5, partial(models.lenet5, form="modern")):
        lenet = ConvNetClassifier(network, epochs=1, random_state=0).fit(enlarged, Y[:60]).network_
        assert sum(parameter.size for parameter in lenet.parameters().values()) == 61_706
    narrow = ConvNetClassifier("resnet20", network_options={"width": 4}, epochs=1).fit(X[:64], Y[:64]).network_
    assert narrow.parameters()["conv1.weight"].shape == (4, 1, 3, 3)
    assert parts(ConvNetClassifier(flat_network, epochs=1).fit(X, Y).network_) == ["Flatten", "Linear"]


def test_a_network_that_is_given_is_trained_on_from_its_weights_and_stays_as_it_is():
    given = flat_network((1, 8, 8), 10, 0)
    before = {name: array.copy() for name, array in given.state_dict().items()}
    fitted = ConvNetClassifier(given, epochs=1, learning_rate=1e-7).fit(X, Y)
    for name, array in given.state_dict().items():
        np.testing.assert_array_equal(array, before[name])
        np.testing.assert_allclose(fitted.network_.state_dict()[name], before[name], atol=1e-5)
    assert fitted.network_ is not given


@pytest.mark.parametrize("copied", [clone, lambda each: pickle.loads(pickle.dumps(each))], ids=["clone", "pickle"])
def test_copies_of_an_unfitted_one_give_the_same(copied):
    given = SMALL.set_params()
    np.testing.assert_array_equal(copied(given).fit(X, Y).predict_proba(X), clone(given).fit(X, Y).predict_proba(X))


def test_joblib_brings_a_fitted_one_back_and_it_goes_on_alike():
    fitted = clone(SMALL).set_params(network="resnet20", network_options={"width": 4}, epochs=2).fit(X, Y)
    file = io.BytesIO()
    joblib.dump(fitted, file)
    file.seek(0)
    loaded = joblib.load(file)
    np.testing.assert_array_equal(loaded.predict_proba(X), fitted.predict_proba(X))
    for each in (loaded, fitted):
        each.partial_fit(X[::-1], Y[::-1])
    np.testing.assert_array_equal(loaded.predict_proba(X), fitted.predict_proba(X))
    assert loaded.history_["loss"] == fitted.history_["loss"]


@pytest.mark.parametrize("mode", ["r", "r+", "c"])
def test_one_that_lies_in_a_memory_mapped_file_can_be_trained_and_leaves_the_file_alone(tmp_path, mode):
    options = {"network": "resnet20", "network_options": {"width": 4}, "optimizer": "momentum", "warm_start": True}
    fitted = clone(SMALL).set_params(**options).partial_fit(X, Y, classes=np.unique(Y))
    joblib.dump(fitted, tmp_path / "fitted")
    content = (tmp_path / "fitted").read_bytes()
    loaded = joblib.load(tmp_path / "fitted", mmap_mode=mode)
    for each in (loaded, fitted):
        each.partial_fit(X[::-1], Y[::-1])
    np.testing.assert_array_equal(loaded.predict_proba(X), fitted.predict_proba(X))
    assert (tmp_path / "fitted").read_bytes() == content


def test_random_state_settles_everything():
    first, same = (clone(SMALL).fit(X, Y).predict_proba(X) for _ in range(2))
    other = clone(SMALL).set_params(random_state=1).fit(X, Y).predict_proba(X)
    drawn = clone(SMALL).set_params(random_state=np.random.RandomState(0)).fit(X, Y).predict_proba(X)
    np.testing.assert_array_equal(first, same)
    np.testing.assert_array_equal(first, drawn)
    assert not np.allclose(first, other)


def whole_batches(**options):
    """Without batches a weight is the same as a repetition, but for rounding."""
    return clone(SMALL).set_params(batch_size=1000, **options)


def test_weights_of_samples_are_repetitions():
    weights = np.random.default_rng(0).integers(0, 4, len(Y)).astype(float)
    weighted = whole_batches().fit(X, Y, sample_weight=weights)
    repeated = whole_batches().fit(np.repeat(X, weights.astype(int), 0), np.repeat(Y, weights.astype(int)))
    np.testing.assert_allclose(weighted.predict_proba(X), repeated.predict_proba(X), atol=2e-5)
    assert np.abs(weighted.predict_proba(X) - whole_batches().fit(X, Y).predict_proba(X)).max() > 0.01


def test_weights_of_classes_are_weights_of_their_samples():
    few = np.concatenate([np.flatnonzero(Y == 0), np.flatnonzero(Y == 1)[:5]])
    x, y = X[few], Y[few]
    zeros = int((y == 0).sum())
    balanced = np.where(y == 0, len(y) / (2 * zeros), len(y) / (2 * 5))
    expected = whole_batches().fit(x, y, sample_weight=balanced).predict_proba(x)
    by_rule = whole_batches(class_weight="balanced").fit(x, y)
    by_hand = whole_batches(class_weight={0: balanced[0], 1: balanced[-1]}).fit(x, y)
    np.testing.assert_allclose(by_rule.predict_proba(x), expected, atol=1e-6)
    np.testing.assert_allclose(by_hand.predict_proba(x), expected, atol=1e-6)
    doubled = whole_batches(class_weight={0: 2.0, 1: 1.0}).fit(x, y, sample_weight=1.0 + y)
    np.testing.assert_allclose(doubled.predict_proba(x), whole_batches().fit(x, y).predict_proba(x), atol=1e-5)


def test_early_stopping_ends_and_returns_to_the_best_epoch():
    stopping = clone(SMALL).set_params(early_stopping=True, n_iter_no_change=2, epochs=200, learning_rate=0.02)
    stopping.fit(X, Y)
    losses = stopping.history_["val_loss"]
    assert stopping.n_iter_ == len(losses) < 200
    assert int(np.argmin(losses)) == len(losses) - 3


def test_partial_fit_trains_on_what_comes():
    classifier = clone(SMALL)
    for start in [*range(0, 1400, 100)] * 2:
        rows = slice(start, start + 100)
        classifier.partial_fit(DATA.train_x[rows], DATA.train_y[rows], classes=range(10))
    assert classifier.n_iter_ == len(classifier.history_) == 28
    assert classifier.score(DATA.test_x, DATA.test_y) > 0.8


def test_epochs_of_partial_fit_are_those_of_fit():
    """The optimizer's state goes on from call to call."""
    by_parts = clone(SMALL)
    for _ in range(5):
        by_parts.partial_fit(X, Y, classes=np.arange(10))
    np.testing.assert_allclose(by_parts.history_["loss"], clone(SMALL).fit(X, Y).history_["loss"], rtol=1e-6)


def test_partial_fit_may_lack_classes_that_are_to_come():
    classifier = clone(SMALL).partial_fit(X[Y < 5], Y[Y < 5], classes=range(10))
    assert classifier.predict_proba(X[:2]).shape == (2, 10)
    classifier.partial_fit(X, Y)


def test_fit_begins_anew_unless_it_is_to_go_on():
    fresh = clone(SMALL)
    once = fresh.fit(X, Y).predict_proba(X)
    np.testing.assert_array_equal(fresh.fit(X, Y).predict_proba(X), once)
    warm = clone(SMALL).set_params(warm_start=True).fit(X, Y)
    network = warm.network_
    first_loss = warm.history_["loss"][0]
    warm.fit(X, Y)
    assert warm.network_ is network
    assert warm.history_["loss"][0] < first_loss


def test_fit_leaves_its_arguments_alone():
    optimizer, schedule = SGD(0.05, momentum=0.9), StepDecay(2)
    state = dict(vars(schedule))
    classifier = clone(SMALL).set_params(learning_rate=None, optimizer=optimizer, schedule=schedule).fit(X, Y)
    assert classifier.optimizer is optimizer
    assert classifier.schedule is schedule
    assert optimizer.state_dict()["steps"] == {}
    assert vars(schedule) == state


def test_schedules_change_the_course():
    plain, linear, by_object, cosine = (
        clone(SMALL).set_params(schedule=schedule).fit(X, Y).history_["loss"]
        for schedule in (None, "linear", LinearDecay(), "cosine")
    )
    assert linear == by_object
    assert plain[0] == linear[0] == cosine[0]  # all begin with the optimizer's own
    assert len({plain[-1], linear[-1], cosine[-1]}) == 3


def test_training_images_are_augmented_and_others_are_not():
    seen = []

    def darken(x, y, rng):
        seen.append(len(x))
        return x * rng.uniform(0.5, 1, (len(x), 1, 1, 1)).astype(x.dtype), y

    augmented = clone(SMALL).set_params(augment=darken, epochs=1, early_stopping=True, validation_fraction=0.5)
    probabilities = augmented.fit(X, Y).predict_proba(X)
    assert sum(seen) >= 150  # and a few to see whether what comes out suits the network
    seen.clear()
    np.testing.assert_array_equal(augmented.predict_proba(X), probabilities)
    assert not seen


def test_settings_reach_the_optimizer():
    options = {"momentum": 0.5, "weight_decay": 0.01, "learning_rate": 0.25}
    optimizer = clone(SMALL).set_params(optimizer="nesterov", epochs=1, **options).fit(X, Y)._optimizer
    assert optimizer.hyper_parameters == {**options, "nesterov": True}


def test_in_a_pipeline():
    pipeline = make_pipeline(StandardScaler(), clone(SMALL).set_params(input_shape=(1, 8, 8)))
    assert pipeline.fit(FLAT, Y).score(DATA.test_x.reshape(-1, 64) / 255, DATA.test_y) > 0.8


def test_searches_find_the_better_settings():
    grid = GridSearchCV(clone(SMALL), {"learning_rate": [1e-6, 0.01]}, cv=2).fit(X, Y)
    assert grid.best_params_ == {"learning_rate": 0.01}
    nested = make_pipeline(StandardScaler(), clone(SMALL))
    distributions = {"convnetclassifier__learning_rate": loguniform(1e-5, 1e-1)}
    search = RandomizedSearchCV(nested, distributions, n_iter=2, cv=2, random_state=0).fit(FLAT, Y)
    assert search.best_score_ == search.cv_results_["mean_test_score"].max()


def test_worker_processes_give_the_same_and_share_the_cores():
    code = """
    import joblib, numpy as np, cyconv
    from sklearn.model_selection import cross_val_score
    from cyconv.data import digits
    from cyconv.sklearn import ConvNetClassifier

    counts = joblib.Parallel(n_jobs=2)(joblib.delayed(cyconv.get_num_threads)() for _ in range(2))
    assert sum(counts) <= max(2, joblib.cpu_count()), counts
    data, classifier = digits(), ConvNetClassifier(channels=4, epochs=2, random_state=0)
    scores = cross_val_score(classifier, data.test_x, data.test_y, cv=2)  # the kernels' threads are there now
    for backend in ("loky", "multiprocessing"):
        with joblib.parallel_config(backend=backend):
            again = cross_val_score(classifier, data.test_x, data.test_y, cv=2, n_jobs=2)
        assert np.array_equal(again, scores), (backend, again, scores)
    print("same")
    """
    assert processes.output(code, timeout=240, warnings="default").strip() == "same"


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"epochs": 0}, ValueError, "ConvNetClassifier: `epochs` must be at least 1, got 0"),
        ({"batch_size": 2.5}, TypeError, "ConvNetClassifier: `batch_size` must be an integer, got 2.5"),
        ({"optimizer": "newton"}, ValueError, "ConvNetClassifier: `optimizer` must be one of 'sgd', .*, got 'newton'"),
        ({"momentum": 0.9}, ValueError, "ConvNetClassifier: the optimizer 'adam' has no `momentum`"),
        ({"optimizer": SGD()}, ValueError, "ConvNetClassifier: set `learning_rate` in the `optimizer` object itself"),
        ({"learning_rate": -1.0}, ValueError, "Adam: `learning_rate` must be at least 0"),
        ({"schedule": "steep"}, ValueError, "ConvNetClassifier: `schedule` must be one of 'linear', 'cosine', got"),
        ({"early_stopping": 1}, TypeError, "ConvNetClassifier: `early_stopping` must be True or False, got 1"),
        (
            {"early_stopping": True, "validation_fraction": 1.5},
            ValueError,
            "ConvNetClassifier: `validation_fraction` must be above 0 and below 1, got 1.5",
        ),
        (
            {"early_stopping": True, "n_iter_no_change": 0},
            ValueError,
            "ConvNetClassifier: `n_iter_no_change` must be at least 1, got 0",
        ),
        ({"warm_start": "yes"}, TypeError, "ConvNetClassifier: `warm_start` must be True or False, got 'yes'"),
        ({"channels": (8, 0)}, ValueError, "ConvNetClassifier: `channels` must be at least 1, got 0"),
        ({"hidden": "many"}, TypeError, "ConvNetClassifier: `hidden` must be an integer, got 'many'"),
        ({"input_shape": 64}, ValueError, r"ConvNetClassifier: `input_shape` must be \(C, H, W\), got 64"),
        (
            {"input_shape": (1, 4, 4)},
            ValueError,
            r"ConvNetClassifier: `X` has inputs of shape \(1, 8, 8\), which are not of the `input_shape` \(1, 4, 4\)",
        ),
        ({"network": "nonet"}, ValueError, "ConvNetClassifier: `network` must be one of 'alexnet', .*, got 'nonet'"),
        ({"network": 3}, TypeError, "ConvNetClassifier: `network` must be a name or a function that builds"),
        (
            {"network": flat_network((1, 4, 4), 10, 0)},
            ValueError,
            r"ConvNetClassifier: the network takes inputs of shape \(1, 4, 4\), but these have \(1, 8, 8\)",
        ),
        (
            {"network": "unet", "network_options": {"padding": "same", "depth": 1}},
            ValueError,
            r"ConvNetClassifier: `network` must give 10 numbers, got outputs of shape \(10, 8, 8\)",
        ),
        ({"network": dict}, TypeError, "ConvNetClassifier: dict must return a Network, got dict"),
        (
            {"network": lambda seed: flat_network((1, 8, 8), 4, seed)},
            ValueError,
            r"ConvNetClassifier: `network` must give 10 numbers, got outputs of shape \(4,\)",
        ),
        (
            {"network_options": {"width": 8}},
            ValueError,
            "`network_options` are for a `network` that is a name",
        ),
        (
            {"network": "resnet20", "network_options": "width"},
            TypeError,
            "ConvNetClassifier: `network_options` must map names to values, got 'width'",
        ),
    ],
)
def test_errors_in_arguments(options, error, message):
    classifier = clone(SMALL).set_params(**options)
    with pytest.raises(error, match=message):
        classifier.fit(X, Y)


def test_errors_in_data():
    fitted = clone(SMALL).fit(X, Y)
    with pytest.raises(ValueError, match=r"`X` must be images of shape \(1, 8, 8\), got \(1, 4, 16\)"):
        fitted.predict(X.reshape(-1, 1, 4, 16))
    with pytest.raises(ValueError, match=r"`X` must have shape .* or \(N, features\), got \(300, 1, 1, 8, 8\)"):
        clone(SMALL).fit(X[:, np.newaxis], Y)
    with pytest.raises(ValueError, match="63 features, but ConvNetClassifier is expecting 64"):
        fitted.predict(FLAT[:, :63])
    with pytest.raises(ValueError, match="contains NaN"):
        clone(SMALL).fit(np.full((300, 1, 8, 8), np.nan), Y)
    with pytest.raises(ValueError, match="Negative values in data passed to `sample_weight`"):
        clone(SMALL).fit(X, Y, sample_weight=-np.ones(300))
    with pytest.raises(ValueError, match=r"inputs of shape \(64,\), which are not of the `input_shape` \(1, 9, 9\)"):
        clone(SMALL).set_params(input_shape=(1, 9, 9)).fit(FLAT, Y)
    with pytest.raises(ValueError, match=r"lenet5 needs images of shape \(C, H, W\), got inputs of shape \(64,\)"):
        clone(SMALL).set_params(network="lenet5").fit(FLAT, Y)


def test_errors_in_classes():
    with pytest.raises(ValueError, match="the first call of partial_fit needs `classes`"):
        clone(SMALL).partial_fit(X, Y)
    with pytest.raises(ValueError, match=r"`y` must hold the classes \[0 1 2\], got \[3 4 5 6 7 8 9\] too"):
        clone(SMALL).partial_fit(X, Y, classes=[0, 1, 2])
    with pytest.raises(ValueError, match="`class_weight` 'balanced' needs all data at once"):
        clone(SMALL).set_params(class_weight="balanced").partial_fit(X, Y, classes=range(10))
    fitted = clone(SMALL).set_params(warm_start=True).fit(X, Y)
    with pytest.raises(ValueError, match=r"`classes` must be those of the first call, .*, got \[0 1\]"):
        fitted.partial_fit(X, Y, classes=[0, 1])
    with pytest.raises(ValueError, match=r"with `warm_start` the classes must be those of the last fit, .*got \[0\]"):
        fitted.fit(X[Y == 0], Y[Y == 0])


def tensor(array):
    """Return an array as another library's, whose dtype NumPy does not know."""

    class Tensor:
        dtype, shape = f"torch.{array.dtype}", array.shape

        def __array__(self, dtype=None, copy=None):
            return np.asarray(array, dtype)

        def __len__(self):
            return len(array)

    return Tensor()


def frames():
    pandas = pytest.importorskip("pandas")
    return [partial(pandas.DataFrame, dtype=dtype) for dtype in ("uint8", "UInt8")]


def test_bytes_mean_the_same_in_every_container():
    X, y = DATA.train_x[:64].reshape(64, -1), DATA.train_y[:64]
    forms = [list, tensor, lambda array: [tensor(row) for row in array]]
    expected = ConvNetClassifier(hidden=8, epochs=2, random_state=0).fit(X, y)
    for form in forms:
        fitted = ConvNetClassifier(hidden=8, epochs=2, random_state=0).fit(form(X), y)
        np.testing.assert_array_equal(fitted.predict_proba(X), expected.predict_proba(X))
        np.testing.assert_array_equal(expected.predict_proba(form(X)), expected.predict_proba(X))
    np.testing.assert_allclose(expected.network_.predict_proba(list(X)), expected.predict_proba(list(X)), rtol=1e-5)


def test_bytes_mean_the_same_in_data_frames():
    X, y = DATA.train_x[:64].reshape(64, -1), DATA.train_y[:64]
    expected = ConvNetClassifier(hidden=8, epochs=2, random_state=0).fit(X, y)
    for form in frames():
        fitted = ConvNetClassifier(hidden=8, epochs=2, random_state=0).fit(form(X), y)
        np.testing.assert_array_equal(fitted.predict_proba(form(X)), expected.predict_proba(X))


@pytest.mark.parametrize("dtype", [np.int64, np.int8, np.uint16, "list"])
def test_other_integers_are_not_mixed_with_bytes(dtype):
    X, y = DATA.train_x[:32] // 4, DATA.train_y[:32]
    others = X.tolist() if dtype == "list" else X.astype(dtype)
    options = {"channels": 2, "hidden": (), "epochs": 1, "random_state": 0}
    of_bytes, of_others = (ConvNetClassifier(**options).fit(each, y) for each in (X, others))
    floats = np.asarray(others, np.float32)
    np.testing.assert_array_equal(of_others.predict_proba(others), of_others.predict_proba(floats))
    np.testing.assert_allclose(of_bytes.predict_proba(X), of_bytes.predict_proba(floats / 255), rtol=1e-4)
    message = (
        r"ConvNetClassifier: `X` must be of the kind that `fit` had, {}, got {}: .* cast it with `.astype\(np.{}\)"
    )
    names = ["bytes, uint8", "integers other than uint8"]
    for method in ("predict", "predict_proba", "predict_log_proba"):
        with pytest.raises(TypeError, match=message.format(*names, "uint8")):
            getattr(of_bytes, method)(others)
        with pytest.raises(TypeError, match=message.format(*names[::-1], "float32")):
            getattr(of_others, method)(X)
    with pytest.raises(TypeError, match=message.format(*names, "uint8")):
        of_bytes.partial_fit(others, y)
    with pytest.raises(TypeError, match=message.format(*names, "uint8")):
        of_bytes.set_params(warm_start=True).fit(others, y)
    of_bytes.set_params(warm_start=False).fit(others, y).predict(others)


def test_logarithms_of_probabilities():
    X, y = DATA.train_x[:32], DATA.train_y[:32]
    classifier = ConvNetClassifier(channels=2, hidden=(), epochs=1, random_state=0).fit(X, y)
    np.testing.assert_allclose(np.exp(classifier.predict_log_proba(X)), classifier.predict_proba(X), rtol=1e-10)
    for parameter in classifier.network_.parameters().values():
        parameter.data *= 200
    logs = classifier.predict_log_proba(X)
    assert np.isfinite(logs).all()
    assert logs.min() < -800  # too small for a probability


def test_one_image_that_is_left_ends_no_run():
    """Also in parts: the network normalises maps of one pixel."""
    X, y = np.random.default_rng(0).random((9, 3, 32, 32), np.float32), np.arange(9) % 2
    for options in ({}, {"drop_last": True}):
        classifier = ConvNetClassifier("resnet18", epochs=1, batch_size=4, random_state=0, **options)
        assert len(classifier.fit(X, y).history_) == 1
        assert len(classifier.partial_fit(X, y).history_) == 2
    with pytest.raises(TypeError, match="ConvNetClassifier: `drop_last` must be True or False, got 'yes'"):
        ConvNetClassifier(drop_last="yes", epochs=1).fit(X, y)
