"""Fixtures that every test may use."""

import pytest

from cyconv import threads


@pytest.fixture
def small_work_threaded(monkeypatch):
    """Give even tiny arrays all threads, which otherwise run serially."""
    monkeypatch.setattr(threads, "GRAIN", 1)
