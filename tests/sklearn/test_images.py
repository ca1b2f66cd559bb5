import numpy as np
import pytest

pytest.importorskip("sklearn")
Image = pytest.importorskip("PIL.Image")

from sklearn.base import clone  # noqa: E402
from sklearn.pipeline import make_pipeline  # noqa: E402

from cyconv.data import image_folder  # noqa: E402
from cyconv.sklearn import ConvNetClassifier, ImageReader  # noqa: E402


@pytest.fixture
def root(tmp_path):
    """Pictures of 20x60, partly transparent, in two classes."""
    rng = np.random.default_rng(0)
    for name, level in (("bright", 200), ("dark", 20)):
        (tmp_path / name).mkdir()
        for number in range(10):
            pixels = rng.integers(level, level + 40, (20, 60, 4), np.uint8)
            Image.fromarray(pixels).save(tmp_path / name / f"{number}.png")
    return tmp_path


@pytest.mark.parametrize("options", [{}, {"shape": "stretch", "background": 0}, {"channels": 1, "invert": True}])
def test_pictures_are_prepared_as_those_of_a_folder(root, options):
    renamed = {("fit" if name == "shape" else name): value for name, value in options.items()}
    data = image_folder(root, 8, **renamed)
    paths = [root / name for name in data.files]
    reader = clone(ImageReader(8, **options))
    np.testing.assert_array_equal(reader.fit_transform(paths), data.x)
    np.testing.assert_array_equal(reader.transform(np.array([str(path) for path in paths])), data.x)


def test_a_pipeline_takes_paths(root):
    data = image_folder(root, 8)
    paths = [root / name for name in data.files]
    pipeline = make_pipeline(ImageReader(8), ConvNetClassifier(epochs=10, random_state=0)).fit(paths, data.y)
    expected = ConvNetClassifier(epochs=10, random_state=0).fit(data.x, data.y)
    np.testing.assert_array_equal(pipeline.predict_proba(paths), expected.predict_proba(data.x))


def test_refuses(root):
    (root / "dark" / "3.png").write_bytes(b"no picture")
    with pytest.raises(ValueError, match=r"^ImageReader: .*3\.png is no image"):
        ImageReader(8).transform(sorted(root.glob("*/*.png")))
    with pytest.raises(TypeError, match=r"^ImageReader: `X` must be a sequence of paths, got str"):
        ImageReader(8).transform("a.png")
    with pytest.raises(TypeError, match=r"^ImageReader: `X` must be paths, got int"):
        ImageReader(8).transform([3])
    with pytest.raises(ValueError, match=r"^ImageReader: `shape` must be one of 'crop', 'stretch', got 'pad'"):
        ImageReader(8, shape="pad").fit([])
