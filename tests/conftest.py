"""Fixtures that every test may use."""

import inspect
import os

# Read when the first kernel is loaded: tests use more threads than there are cores, so waiting ones must not spin.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import pytest

from cyconv import threads

# Tests run on as many threads as they ask for, whatever else keeps the cores busy; those of this are processes.
threads._spread = False
threads._shared_cores = 0


def pytest_collection_modifyitems(items):
    """Mark the tests that ask for PyTorch by `pytest.importorskip("torch")`, in the test or at the top of its file."""
    for item in items:
        if isinstance(item, pytest.Function):
            code = inspect.unwrap(item.function).__code__
            if hasattr(item.module, "torch") or ("importorskip" in code.co_names and "torch" in code.co_consts):
                item.add_marker("torch")


@pytest.fixture
def small_work_threaded(monkeypatch):
    """Give even tiny arrays all threads, which otherwise run serially."""
    monkeypatch.setattr(threads, "GRAIN", 1)
