"""Networks as scikit-learn's estimators: in pipelines, searches and cross-validation. Needs scikit-learn."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cyconv.sklearn.classifier import ConvNetClassifier
    from cyconv.sklearn.images import ImageReader
    from cyconv.sklearn.regressor import ConvNetRegressor

__all__ = ["ConvNetClassifier", "ConvNetRegressor", "ImageReader"]


def __getattr__(name: str) -> Any:
    """Load an estimator, and scikit-learn with it, when it is first used."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        import sklearn  # noqa: F401
    except ImportError as error:
        raise ImportError('cyconv.sklearn needs scikit-learn: pip install "cyconv[sklearn]"') from error
    from cyconv.sklearn import classifier, images, regressor

    globals().update(ConvNetClassifier=classifier.ConvNetClassifier, ConvNetRegressor=regressor.ConvNetRegressor)
    globals().update(ImageReader=images.ImageReader)
    return globals()[name]


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
