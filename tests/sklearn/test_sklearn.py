"""The module itself: scikit-learn is loaded when an estimator is asked for, and named where it is missing."""

import pytest

from tests import processes


def test_an_estimator_needs_scikit_learn_and_nothing_else_does():
    code = """
    import sys
    sys.modules["sklearn"] = None  # as if it were not installed
    import cyconv
    from cyconv import *
    assert sorted(cyconv.sklearn.__all__) == ["ConvNetClassifier", "ConvNetRegressor", "ImageReader"]
    assert {*cyconv.sklearn.__all__} <= {*dir(cyconv.sklearn)}
    try:
        cyconv.sklearn.ConvNetClassifier
    except ImportError as error:
        print(error)
    """
    assert processes.output(code).strip() == 'cyconv.sklearn needs scikit-learn: pip install "cyconv[sklearn]"'


def test_estimators_are_found_when_they_are_used():
    pytest.importorskip("sklearn")
    import cyconv

    for name in cyconv.sklearn.__all__:
        estimator = getattr(cyconv.sklearn, name)
        assert estimator is getattr(cyconv.sklearn, name)
        assert estimator.__name__ == name
    with pytest.raises(AttributeError, match=r"^module 'cyconv.sklearn' has no attribute 'ConvNetTransformer'$"):
        _ = cyconv.sklearn.ConvNetTransformer
