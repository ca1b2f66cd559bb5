"""The OpenMP runtime is loaded with a short spinning time, unless the user chose one, and children inherit nothing."""

import pytest

from tests import processes

NAMES = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")
# What libgomp read, not what the environment says now; it prints its settings when it is loaded, a display of OpenMP 5.
CODE = """
import os
before = {name: os.environ.get(name) for name in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
import cyconv
print(before == {name: os.environ.get(name) for name in before})
"""


@pytest.fixture
def settings(monkeypatch):
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)


def spin_count(**variables):
    """Return the spinning time that the runtime reports, None where it is not GCC's."""
    status, printed, said = processes.run(CODE, OMP_DISPLAY_ENV="verbose", **variables)
    assert status == 0, said
    assert printed == "True\n"
    lines = [line for line in said.splitlines() if "GOMP_SPINCOUNT" in line]
    return lines[-1].split("'")[1] if lines else None


@pytest.mark.parametrize(
    ("variables", "expected"),
    [({}, "5000"), ({"GOMP_SPINCOUNT": "77"}, "77"), ({"OMP_WAIT_POLICY": "passive"}, "0")],
    ids=["nothing", "a spinning time", "a policy"],
)
def test_waiting_threads_give_their_core_back_soon(settings, variables, expected):
    found = spin_count(**variables)
    if found is None:
        pytest.skip("another runtime than GCC's")
    assert found == expected
