"""Fixtures that every test may use."""

import os

# Read when the first kernel is loaded: tests use more threads than there are cores, so waiting ones must not spin.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import pytest

from cyconv import threads

# Tests run on as many threads as they ask for, whatever else keeps the cores busy; those of this are processes.
threads._spread = False
threads._shared_cores = 0


@pytest.fixture
def small_work_threaded(monkeypatch):
    """Give even tiny arrays all threads, which otherwise run serially."""
    monkeypatch.setattr(threads, "GRAIN", 1)
