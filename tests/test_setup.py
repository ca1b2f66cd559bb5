"""What is decided before anything is compiled."""

import os
import re
import subprocess
import sys

import pytest

import cyconv
from tests.processes import ROOT

PROJECT = (ROOT / "pyproject.toml").read_text(encoding="utf-8")


@pytest.mark.parametrize("wanted", ["mmx", "baseline,mmx", "baseline, mmx "])
def test_an_unknown_instruction_set_is_named(wanted):
    pytest.importorskip("Cython")
    pytest.importorskip("setuptools")
    command = [sys.executable, "setup.py", "--version"]
    environment = {**os.environ, "CYCONV_BUILD_ISA": wanted}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 1
    assert re.fullmatch(r"cyconv: CYCONV_BUILD_ISA: 'mmx' is none of baseline\b.*\n", done.stderr)


def test_the_version_is_written_once_and_read_without_an_import():
    expand = pytest.importorskip("setuptools.config.expand")
    assert 'version = { attr = "cyconv.__version__" }' in PROJECT
    assert not re.search(r"^version = \"", PROJECT, re.MULTILINE)
    assert expand.read_attr("cyconv.__version__", root_dir=str(ROOT)) == cyconv.__version__
