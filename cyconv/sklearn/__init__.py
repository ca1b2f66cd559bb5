"""Networks as scikit-learn's estimators: in pipelines, searches and cross-validation. Needs scikit-learn."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cyconv.sklearn.classifier import ConvNetClassifier
    from cyconv.sklearn.images import ImageReader
    from cyconv.sklearn.regressor import ConvNetRegressor

__all__ = ["ConvNetClassifier", "ConvNetRegressor", "ImageReader"]


if not TYPE_CHECKING:  # whose readers take it for a promise that every name exists

    def __getattr__(name: str) -> Any:
        """Load an estimator, and scikit-learn with it, when it is first used."""
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        try:
            import sklearn  # noqa: F401
        except ImportError as error:
            raise ImportError('cyconv.sklearn needs scikit-learn: pip install "cyconv[sklearn]"') from error
        import cyconv.data
        import cyconv.layers
        import cyconv.models  # noqa: F401  (whole, before their parts: see cyconv/__init__.py)
        from cyconv.sklearn import classifier, images, regressor

        globals().update(ConvNetClassifier=classifier.ConvNetClassifier, ConvNetRegressor=regressor.ConvNetRegressor)
        globals().update(ImageReader=images.ImageReader)
        return globals()[name]


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
