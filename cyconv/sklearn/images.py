"""Pictures in files as the images that the estimators take."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, TransformerMixin

from cyconv.data.pictures import Preparation, read_pictures


class ImageReader(TransformerMixin, BaseEstimator):
    """Read pictures from files, all at one size: the first step of a pipeline that ends in an estimator.

    They are prepared as by `cyconv.data.image_folder` and the command ``cyconv``, in fitting and predicting alike.

    Parameters
    ----------
    size : int or pair of ints
        Height and width of the images.
    channels : {1, 3}, default 3
        Grey, or red, green and blue.
    shape : {"crop", "stretch"}, default "crop"
        How a picture of another shape comes to this one: what is too long is cut off on both sides, or all is squeezed.
    background : str, int or sequence of 3 ints, default "white"
        What shows through where a picture is transparent: the name of a colour, a grey level, or red, green and blue.
    invert : bool, default False
        Whether light becomes dark.

    Examples
    --------
    >>> import tempfile, pathlib
    >>> from PIL import Image
    >>> from sklearn.pipeline import make_pipeline
    >>> from cyconv.sklearn import ConvNetClassifier, ImageReader
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     paths = [pathlib.Path(folder, f"{color}.png") for color in ("red", "blue")]
    ...     for path in paths:
    ...         Image.new("RGB", (40, 30), path.stem).save(path)
    ...     pipeline = make_pipeline(ImageReader(8), ConvNetClassifier(epochs=20, random_state=0))
    ...     pipeline.fit(paths, ["warm", "cold"]).predict(paths).tolist()
    ['warm', 'cold']
    """

    def __init__(
        self,
        size: int | tuple[int, int],
        channels: int = 3,
        shape: str = "crop",
        background: str | int | Sequence[int] = "white",
        invert: bool = False,
    ) -> None:
        self.size, self.channels, self.shape = size, channels, shape
        self.background, self.invert = background, invert

    def fit(self, X: Iterable[Any], y: Any = None) -> Self:
        """Check the parameters; nothing is learned."""
        self._preparation()
        return self

    def transform(self, X: Iterable[Any]) -> NDArray[np.uint8]:
        """Return the pictures in files.

        Parameters
        ----------
        X : sequence of str or path
            The files.

        Returns
        -------
        ndarray of shape (N, C, H, W), uint8

        Raises
        ------
        OSError
            If a file is missing.
        TypeError, ValueError
            If a parameter is wrong, or files, all of which are named, are no pictures or damaged.
        """
        op = "ImageReader"
        if isinstance(X, (str, bytes, os.PathLike)) or not isinstance(X, Iterable):
            raise TypeError(f"{op}: `X` must be a sequence of paths, got {type(X).__name__}")
        paths = list(X)
        for path in paths:
            if not isinstance(path, (str, os.PathLike)):
                raise TypeError(f"{op}: `X` must be paths, got {type(path).__name__}")
        pixels, _ = read_pictures(op, [Path(os.fsdecode(path)) for path in paths], self._preparation())
        return pixels.transpose(0, 3, 1, 2)

    def _preparation(self) -> Preparation:
        return Preparation.checked(
            "ImageReader", self.size, self.channels, self.shape, self.background, self.invert, fit_name="shape"
        )
