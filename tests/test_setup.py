"""What is decided before anything is compiled, and what is left of an earlier build, on a small copy of the project."""

import importlib.util
import os
import platform
import re
import shutil
import subprocess
import sys

import pytest

import cyconv
from tests.processes import ROOT

SETTINGS = ("CYCONV_BUILD_ISA", "CYCONV_NO_OPENMP", "CYCONV_DEBUG", "LIBOMP_PREFIX", "CC", "CFLAGS", "LDFLAGS")
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


@pytest.fixture
def settings(monkeypatch):
    """Return what sets an environment variable, in an environment without those that the build reads."""
    for name in SETTINGS:
        monkeypatch.delenv(name, raising=False)
    return monkeypatch.setenv


@pytest.fixture
def build(settings):
    """Return setup.py as a module, which does nothing when it is imported."""
    pytest.importorskip("Cython")
    pytest.importorskip("setuptools")
    spec = importlib.util.spec_from_file_location("setup_of_cyconv", ROOT / "setup.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def compiler_of_extensions():
    """Return the compiler as `build_ext` makes it, with CC from the environment."""
    from setuptools._distutils.ccompiler import new_compiler
    from setuptools._distutils.sysconfig import customize_compiler

    compiler = new_compiler()
    customize_compiler(compiler)
    return compiler


def imitate(folder, script):
    """Write a C compiler: the real one behind a shell script."""
    real = shutil.which("cc")
    if real is None or sys.platform == "win32":
        pytest.skip("needs a C compiler named cc")
    path = folder / "fake-cc"
    path.write_text(f'#!/bin/sh\n{script}\nexec {real} "$@"\n')
    path.chmod(0o755)
    return str(path)


def rejecting(pattern):
    """Return the script of a compiler that does not know some flags."""
    return f'for flag in "$@"; do case $flag in {pattern}) echo "error: unknown option $flag" >&2; exit 1;; esac; done'


# Links to something that fails.
NOT_RUNNING = """case " $* " in *" -c "*) ;; *)
  while [ $# -gt 1 ]; do
    if [ "$1" = -o ]; then printf '#!/bin/sh\\nexit 3\\n' > "$2"; chmod +x "$2"; exit 0; fi
    shift
  done
esac"""


def test_the_compiler_of_the_extensions_is_asked_for_openmp(build, settings, tmp_path):
    settings("CC", imitate(tmp_path, 'echo "$@" >> "$0.log"'))
    flags, link = build.openmp_flags(compiler_of_extensions())
    assert "-fopenmp" in [*flags, *link]
    said = (tmp_path / "fake-cc.log").read_text().splitlines()
    assert len(said) == 2  # it compiles, and it links
    assert all("-fopenmp" in line for line in said)


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        (rejecting("-fopenmp|-Xpreprocessor"), "error: unknown option"),
        ('for flag; do shift; case $flag in -fopenmp|-lomp) ;; *) set -- "$@" "$flag";; esac; done', "OpenMP is off"),
        (NOT_RUNNING, "exit status 3"),
    ],
    ids=["does not know the flag", "ignores the flag", "programs do not run"],
)
def test_no_openmp_is_an_error_that_names_the_way_out(build, settings, tmp_path, script, reason):
    settings("CC", imitate(tmp_path, script))
    with pytest.raises(build.CompileError, match=r"cyconv needs OpenMP.*fake-cc") as caught:
        build.openmp_flags(compiler_of_extensions())
    assert reason in str(caught.value)
    for way_out in ("brew install libomp", "apt install gcc libgomp1", "CC=", "CYCONV_NO_OPENMP=1"):
        assert way_out in str(caught.value)


def test_a_compiler_that_is_missing_is_an_error(build, settings, tmp_path):
    settings("CC", str(tmp_path / "no-such-compiler"))
    with pytest.raises(build.CompileError, match=r"cyconv needs OpenMP.*no-such-compiler"):
        build.openmp_flags(compiler_of_extensions())


def test_a_build_for_one_thread_has_to_be_asked_for(build, settings, tmp_path):
    settings("CC", imitate(tmp_path, "exit 1"))
    settings("CYCONV_NO_OPENMP", "1")
    assert build.openmp_flags(compiler_of_extensions()) == ([], [])


USABLE = cyconv._cpu.usable_instruction_sets()
LEVELS = {"baseline": "-march=x86-64-v2", "avx2": "-march=x86-64-v3", "avx512": "-march=x86-64-v4"}
x86_only = pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="needs an x86")


@x86_only
@pytest.mark.parametrize("isa", LEVELS)
def test_an_older_compiler_is_given_the_features_by_name(build, settings, tmp_path, isa):
    settings("CC", imitate(tmp_path, rejecting("-march=x86-64-v*")))
    flags = build.isa_flags(compiler_of_extensions(), isa)
    assert {"baseline": "-msse4.2", "avx2": "-mfma", "avx512": "-mavx512vl"}[isa] in flags
    assert not any(flag.startswith("-march") for flag in flags)
    settings("CC", "cc")
    assert LEVELS[isa] in build.isa_flags(compiler_of_extensions(), isa)


@x86_only
@pytest.mark.parametrize(
    "script",
    [
        rejecting("-march=x86-64-v4|-mavx512*"),
        'for flag; do shift; case $flag in -march=*|-mavx512*) ;; *) set -- "$@" "$flag";; esac; done',
    ],
    ids=["rejects", "ignores"],
)
def test_a_compiler_that_lacks_an_instruction_set_is_an_error(build, settings, tmp_path, script):
    settings("CC", imitate(tmp_path, script))
    compiler = compiler_of_extensions()
    with pytest.raises(build.CompileError, match=r"fake-cc` cannot compile the avx512 kernels: ") as caught:
        build.isa_flags(compiler, "avx512")
    assert "CYCONV_BUILD_ISA=baseline,avx2" in str(caught.value)
    assert build.isa_flags(compiler, "avx2")


def make_project(folder):
    """Copy setup.py to a project of two kernels of a line each, one with a header behind a .pxd file."""
    text = (ROOT / "setup.py").read_text(encoding="utf-8")
    text = re.sub(r"^KERNELS = \[.*?^\]", 'KERNELS = ["first", "second"]', text, flags=re.DOTALL | re.MULTILINE)
    text = re.sub(r"^SUPPORT = .*$", "SUPPORT = []", text, flags=re.MULTILINE).replace('"-O3"', '"-O0"')
    files = {
        "setup.py": text,
        "pyproject.toml": '[project]\nname = "cyconv"\nversion = "0"\n',
        "cyconv/__init__.py": "",
        "cyconv/_kernels/__init__.py": "",
        "cyconv/_kernels/first.pyx": "from cyconv._kernels.number cimport number\ndef value(): return number()\n",
        "cyconv/_kernels/second.pyx": "def value(): return 2\n",
        "cyconv/_kernels/number.pxd": 'cdef extern from "number.h":\n    int number()\n',
        "cyconv/_kernels/number.h": "static int number(void) { return 1; }\n",
    }
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content)


def build_in_place(folder, **variables):
    """Build the project as a developer would; return what was printed."""
    environment = {name: value for name, value in os.environ.items() if name not in SETTINGS}
    environment |= {"CFLAGS": "-O0", "PYTHONPATH": str(folder), **variables}
    command = [sys.executable, "setup.py", "build_ext", "--inplace"]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=250)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def values(folder):
    """Return what the kernels of each instruction set return, those that this CPU runs, in a process of its own."""
    code = f"""
import importlib, os
for isa in sorted(os.listdir("cyconv/_kernels")):
    if isa in {[*LEVELS]} and isa not in {USABLE}:
        print(isa, "cannot run")
    elif isa in {[*LEVELS]}:
        modules = [importlib.import_module(f"cyconv._kernels.{{isa}}.{{name}}") for name in ("first", "second")]
        print(isa, *(module.value() for module in modules))
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=True)
    return dict(line.split(" ", 1) for line in done.stdout.splitlines())


def each(value, *instruction_sets):
    """Return what `values` does where all kernels are as new."""
    return {isa: value if isa in USABLE else "cannot run" for isa in instruction_sets}


@x86_only
def test_modules_that_are_out_of_date_do_not_outlive_a_partial_build(build, tmp_path):
    make_project(tmp_path)
    build_in_place(tmp_path)
    everything = each("1 2", *LEVELS)
    assert values(tmp_path) == everything
    build_in_place(tmp_path, CYCONV_BUILD_ISA="avx2")
    assert values(tmp_path) == everything  # nothing has changed
    header = tmp_path / "cyconv/_kernels/number.h"
    header.write_text(header.read_text().replace("1", "5"))
    printed = build_in_place(tmp_path, CYCONV_BUILD_ISA="avx2")
    assert "removing cyconv/_kernels/avx512, which is not built now, and out of date" in printed
    assert values(tmp_path) == each("5 2", "avx2")
    build_in_place(tmp_path)
    assert values(tmp_path) == each("5 2", *LEVELS)
    serial = {"CYCONV_NO_OPENMP": "1", "CC": imitate(tmp_path, rejecting("-fopenmp"))}
    build_in_place(tmp_path, CYCONV_BUILD_ISA="avx2", **serial)  # other settings, the same sources
    assert values(tmp_path) == each("5 2", "avx2")


@x86_only
def test_a_wheel_has_the_instruction_sets_that_were_asked_for(build, tmp_path):
    make_project(tmp_path)
    command = [sys.executable, "setup.py", "build", "--build-lib", "build/lib"]
    for wanted in ("baseline,avx2", "baseline"):
        environment = {**os.environ, "CYCONV_BUILD_ISA": wanted}
        subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, check=True, timeout=250)
        folders = {path.name for path in (tmp_path / "build/lib/cyconv/_kernels").iterdir() if path.is_dir()}
        assert folders == set(wanted.split(","))


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_processes_that_translate_cython_may_be_spawned(build, tmp_path, method):
    if sys.platform == "win32" and method == "forkserver":
        pytest.skip("needs fork")
    make_project(tmp_path)
    start = f"import multiprocessing\nmultiprocessing.set_start_method({method!r}, force=True)\n"
    (tmp_path / "sitecustomize.py").write_text(start)
    build_in_place(tmp_path, CYCONV_BUILD_ISA="baseline")
    assert values(tmp_path) == {"baseline": "1 2"}
