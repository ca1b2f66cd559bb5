"""Python code run in a process of its own, as a user's program would be: without the settings of the tests."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

ROOT = Path(__file__).parent.parent
SETTINGS = ("CYCONV_ISA", "CYCONV_EXACT", "CYCONV_FUSION", "OMP_NUM_THREADS", "OMP_PROC_BIND", "OMP_WAIT_POLICY")


def environment(**variables):
    """Return this process's environment without what changes cyconv's behaviour, plus `variables`."""
    inherited = {name: value for name, value in os.environ.items() if name not in SETTINGS}
    return {**inherited, "PYTHONPATH": str(ROOT), **variables}


def start(code, warnings="error", **variables):
    """Start Python on `code`; its output is read through pipes."""
    command = [sys.executable, "-W", warnings, "-c", textwrap.dedent(code)]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, env=environment(**variables), stdout=pipe, stderr=pipe, text=True)


def run(code, timeout=60, **keywords):
    """Run Python on `code`; return (exit code, what it printed, what it said on stderr)."""
    with start(code, **keywords) as process:
        try:
            printed, said = process.communicate(timeout=timeout)
        finally:
            process.kill()
    return process.returncode, printed, said


def output(code, timeout=60, **keywords):
    """Run Python on `code`, which must succeed, and return what it printed."""
    status, printed, said = run(code, timeout, **keywords)
    assert status == 0, f"exit code {status}\n{printed}\n{said}"
    return printed
