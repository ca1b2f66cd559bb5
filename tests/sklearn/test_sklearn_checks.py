"""scikit-learn's own checks of estimators, on rows of numbers as they come there."""

import pytest

pytest.importorskip("sklearn")
from sklearn.utils.estimator_checks import estimator_checks_generator

from cyconv.sklearn import ConvNetClassifier, ConvNetRegressor

# The reason that scikit-learn gives for its own SGDClassifier and SGDRegressor. (Where a batch holds all samples it is
# equivalent but for rounding in float32: see test_classifier and test_regressor.)
EXPECTED = {
    "check_sample_weight_equivalence_on_dense_data": "sample_weight is not equivalent to removing/repeating samples."
}
CHECKS = [
    pytest.param(estimator, check, id=f"{type(estimator).__name__}, {check.func.__name__}")
    for each in (ConvNetClassifier(), ConvNetRegressor())
    for estimator, check in estimator_checks_generator(each, expected_failed_checks=EXPECTED, mark="skip")
    if hasattr(check, "func")
]


def test_there_are_checks():
    assert len(CHECKS) > 100


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize(("estimator", "check"), CHECKS)
def test_passes(estimator, check):
    check(estimator)
