"""Search the settings of a LeNet-5 on the bundled digits, on a grid and at random, by scikit-learn's own tools.

    python examples/search_lenet.py --jobs 2

Each combination is trained anew on parts of the training images and scored on the rest; the best of all is then trained
on all of them, and its accuracy on the test images, which took no part in the choice, is what may be expected of it.
"""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np
from scipy.stats import loguniform
from sklearn.model_selection import GridSearchCV, RandomizedSearchCV

from cyconv.data import digits
from cyconv.sklearn import ConvNetClassifier

GRID = {
    "network_options": [{"form": "modern"}, {"form": "1998"}],
    "learning_rate": [3e-4, 3e-3, 3e-2],
}
DISTRIBUTIONS = {
    "learning_rate": loguniform(1e-4, 1e-1),
    "weight_decay": loguniform(1e-6, 1e-2),
    "batch_size": [16, 32, 64, 128],
}


def table(results: dict[str, Any]) -> str:
    """Return a search's results, best first."""
    lines = [f"{'rank':>4}  {'accuracy':>8}  {'+-':>6}  {'seconds':>7}  settings"]
    for i in np.argsort(results["rank_test_score"], kind="stable"):
        mean, deviation, seconds = (
            results[f"{name}"][i] for name in ("mean_test_score", "std_test_score", "mean_fit_time")
        )
        settings = ", ".join(f"{name} {_short(value)}" for name, value in results["params"][i].items())
        lines.append(
            f"{results['rank_test_score'][i]:>4}  {mean:>8.4f}  {deviation:>6.4f}  {seconds:>7.2f}  {settings}"
        )
    return "\n".join(lines)


def _short(value: Any) -> str:
    return f"{value:.2g}" if isinstance(value, float) else str(value)


def main(arguments: list[str] | None = None) -> None:
    """Run both searches and print their tables."""
    parser = argparse.ArgumentParser(description="Search the settings of a LeNet-5 on the bundled digits.")
    parser.add_argument("--epochs", type=int, default=10, help="passes over the images for each setting")
    parser.add_argument("--images", type=int, default=1442, help="training images to take")
    parser.add_argument("--draws", type=int, default=8, help="settings that the random search tries")
    parser.add_argument("--folds", type=int, default=3, help="parts, each of which is left out once")
    parser.add_argument("--jobs", type=int, default=1, help="worker processes; they share the cores")
    options = parser.parse_args(arguments)

    data = digits(28)
    x, y = data.train_x[: options.images], data.train_y[: options.images]
    lenet = ConvNetClassifier("lenet5", epochs=options.epochs, schedule="linear", random_state=0)
    common: dict[str, Any] = {"cv": options.folds, "n_jobs": options.jobs}

    grid = GridSearchCV(lenet, GRID, **common).fit(x, y)
    print("Grid search", table(grid.cv_results_), sep="\n")
    draws = RandomizedSearchCV(lenet, DISTRIBUTIONS, n_iter=options.draws, random_state=0, **common).fit(x, y)
    print("\nRandom search", table(draws.cv_results_), sep="\n")

    best = max((grid, draws), key=lambda search: search.best_score_)
    print(f"\nBest: {best.best_params_}")
    print(f"test accuracy {best.score(data.test_x, data.test_y):.4f} on {len(data.test_y)} images")


if __name__ == "__main__":
    main()
