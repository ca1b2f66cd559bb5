"""``python -m cyconv`` is the command line: its exit status is that of `cyconv.cli.main`."""

import subprocess
import sys

import pytest

import cyconv
from tests import processes


@pytest.mark.parametrize(
    ("arguments", "status"),
    [(["info"], 0), (["--help"], 0), (["evaluate", "--weights", "none"], 2), (["fly"], 2)],
)
def test_the_exit_status_is_that_of_the_command(tmp_path, arguments, status):
    command = [sys.executable, "-m", "cyconv", *arguments]
    done = subprocess.run(command, cwd=tmp_path, env=processes.environment(), capture_output=True, text=True)
    assert done.returncode == status, done.stderr
    assert (done.stderr == "") == (status == 0)
    assert "Traceback" not in done.stderr
    if arguments == ["info"]:
        assert cyconv.__version__ in done.stdout


def test_importing_it_runs_nothing():
    assert processes.output("import cyconv.__main__") == ""
