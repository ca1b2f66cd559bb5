"""The layers of the code: imports only point down, importing is light, and library code neither prints nor asserts."""

import ast
import functools
import graphlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

import cyconv
from cyconv import functional
from tests import processes

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "cyconv"
FILES = sorted(PACKAGE.rglob("*.py"))
KERNELS = sorted((PACKAGE / "_kernels").glob("*.p*x*"))
COMPILED = [*sorted(PACKAGE.glob("*.p*x*")), *KERNELS]

# Each module's height; it may import what lies lower or, without a cycle, beside it.
TIERS = {
    0: ["_kernels", "_cpu", "_memory", "_replay", "_runtime", "_shared"],
    1: [
        "_boundary",
        "_dispatch",
        "_geometry",
        "_pickles",
        "_sources",
        "_validation",
        "_window",
        "memory",
        "settings",
        "threads",
    ],
    2: ["functional", "image", "initializers", "parameter"],
    3: ["layers", "losses", "boxes", "metrics", "optimizers", "gradient_check", "data"],
    4: ["analysis", "training", "callbacks", "history", "serialization", "torch_files"],
    5: ["_feed", "averaging", "network", "schedules"],
    6: ["diagnose", "models", "nas", "visualize"],
    7: ["cli", "sklearn", "__main__", "__init__"],
}
TIER_OF = {name: tier for tier, names in TIERS.items() for name in names}

# Imported where they are used, so that `import cyconv` takes little more than NumPy's own time.
LATE = {"scipy", "tqdm", "safetensors", "matplotlib", "PIL", "sklearn", "torch"}

# Only loaded through `cyconv.sklearn`, when an estimator is asked for: classes there are scikit-learn's.
OF_SKLEARN = {"cyconv.sklearn.base", "cyconv.sklearn.classifier", "cyconv.sklearn.images", "cyconv.sklearn.regressor"}

# Operations that give more of what another does forward, and so have the gradient of that one, below both.
VARIANTS = {
    "batch_norm_statistics": "batch_norm",
    "batch_norm_with_statistics": "batch_norm",
    "max_pool1d_with_winners": "max_pool1d",
    "max_pool2d_with_winners": "max_pool2d",
    "max_pool3d_with_winners": "max_pool3d",
}
# Linear operations whose gradient is the one beside them.
ADJOINT = {"im2col": "col2im", "col2im": "im2col", "unfold": "fold", "fold": "unfold"}

# Test files that are of no single module.
OF_THE_WHOLE = {
    "architecture", "arguments", "benchmarks", "concurrency", "examples", "fork", "methods", "models_page",
    "operations", "operations_page", "pytorch", "pytorch_training", "readme", "results_page", "setup", "signals",
}  # fmt: skip


def module_name(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in FILES}
DISPATCH = "cyconv._dispatch"
EXTENSIONS = {module_name(path) for path in PACKAGE.glob("*.pyx")}


def is_module(name):
    return name in MODULES or name in EXTENSIONS or name.startswith("cyconv._kernels")


def statements(path):
    """Return the nodes of a file's syntax tree, those that only type checkers see included."""
    return ast.walk(ast.parse(path.read_text(encoding="utf-8")))


def imported(node):
    """Return the modules that a statement imports."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        assert node.level == 0, "imports are absolute"
        inner = [f"{node.module}.{alias.name}" for alias in node.names]
        return [name if is_module(name) or node.module == DISPATCH else node.module for name in inner]
    return []


@functools.cache
def own_imports(path):
    """Return the modules of cyconv that a file imports, anywhere in it."""
    names = {name for node in statements(path) for name in imported(node)}
    return {name for name in names if name.split(".")[0] == "cyconv"}


def tier(module):
    module = DISPATCH if module.startswith(f"{DISPATCH}.") else module  # a kernel in it
    parts = module.split(".")
    name = parts[1] if len(parts) > 1 else "__init__"
    assert name in TIER_OF, f"{module} has no tier: add it to TIERS"
    return TIER_OF[name]


@pytest.mark.parametrize("module", MODULES)
def test_imports_point_down(module):
    for other in own_imports(MODULES[module]):
        assert tier(other) <= tier(module), f"{module} imports {other}, which lies higher"


def test_modules_that_lie_beside_each_other_have_no_cycles():
    tuple(
        graphlib.TopologicalSorter({name: own_imports(path) - {name} for name, path in MODULES.items()}).static_order()
    )


@pytest.mark.parametrize("path", COMPILED, ids=lambda path: path.name)
def test_compiled_code_needs_nothing_above_it(path):
    for line in path.read_text(encoding="utf-8").splitlines():
        match = re.match(r"\s*(?:from\s+(\S+)\s+)?(c?import)\s+(\S+)", line)
        if match and not line.lstrip().startswith("#"):
            module = match[1] or match[3]
            assert match[2] == "cimport", f"{path.name} imports Python code: {line.strip()}"
            allowed = r"cython|cpython|libc|openmp|cyconv\._memory$|cyconv\._kernels\."
            assert re.match(allowed, module), f"{path.name} needs {module}"


@pytest.mark.parametrize("module", sorted(MODULES.keys() - OF_SKLEARN))
def test_optional_and_slow_packages_are_imported_late(module):
    tree = ast.parse(MODULES[module].read_text(encoding="utf-8"))
    for node in tree.body:
        assert not {name.split(".")[0] for name in imported(node)} & LATE


def test_importing_everything_leaves_slow_packages_out():
    modules = ", ".join(name for name in MODULES if name not in OF_SKLEARN and not name.endswith("__main__"))
    code = f"import sys, {modules}; print(*sorted({{name.split('.')[0] for name in sys.modules}}))"
    loaded = set(processes.output(code).split())
    assert "numpy" in loaded
    assert not loaded & LATE


def loaded_by(statement):
    """Return the modules that a statement loads after NumPy."""
    code = f"import sys, numpy; before = set(sys.modules); {statement}; print(*{{*sys.modules}} - before)"
    return set(processes.output(code).split())


# Each takes milliseconds to import, and nothing below needs it before a file is read or a batch prepared.
HEAVY = LATE | {
    "asyncio", "concurrent", "gzip", "json", "multiprocessing", "pathlib", "threading", "unittest", "urllib",
}  # fmt: skip


def test_importing_the_package_loads_little():
    """The kernels and the threads; every other part waits until it is used."""
    loaded = loaded_by("import cyconv")
    assert not loaded & HEAVY
    parts = {name.split(".")[1] for name in loaded if name.startswith("cyconv.")}
    assert parts == {
        "_cpu",
        "_dispatch",
        "_geometry",
        "_kernels",
        "_memory",
        "_runtime",
        "_sources",
        "_shared",
        "_validation",
        "settings",
        "threads",
    }


def test_importing_what_trains_loads_no_heavy_module():
    assert not loaded_by("from cyconv import Network, data, functional, layers, models, training") & HEAVY


def test_parts_are_found_when_they_are_used():
    code = """
    import cyconv
    assert {*cyconv.__all__} <= {*dir(cyconv)}
    network = cyconv.models.lenet5(seed=0)
    assert type(network) is cyconv.Network
    for name in cyconv.__all__:
        part = getattr(cyconv, name)
        assert part is getattr(cyconv, name)
        assert f"cyconv.{name}" == part.__name__ or part.__module__.startswith("cyconv.")
    from cyconv import *
    print(*sorted(set(cyconv.__all__) - set(globals())))
    """
    assert processes.output(code).split() == []
    with pytest.raises(AttributeError, match=r"^module 'cyconv' has no attribute 'network_'$"):
        _ = cyconv.network_


def test_what_cannot_run_here_fails_at_import():
    status, _, said = processes.run("import cyconv", CYCONV_ISA="mmx")
    assert status == 1
    assert "ImportError: cyconv: CYCONV_ISA='mmx' is not a known instruction set" in said


@pytest.mark.parametrize("module", [name for name in MODULES if not name.startswith(("cyconv.cli", "cyconv.__main__"))])
def test_library_code_does_not_print_assert_or_exit(module):
    for node in statements(MODULES[module]):
        assert not isinstance(node, ast.Assert), f"line {node.lineno}"
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id not in ("print", "exit", "quit", "breakpoint", "input"), f"line {node.lineno}"


def functions_of(path):
    """Return the functions and classes of a file, by name, in their order."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)}


FUNCTIONAL = {path.name: functions_of(path) for path in sorted((PACKAGE / "functional").glob("[a-z]*.py"))}


def neighbours(name):
    """Return the names that follow a function in its file."""
    names = next(list(functions) for functions in FUNCTIONAL.values() if name in functions)
    return names[names.index(name) + 1 :]


@pytest.mark.parametrize(
    "name", [name for name in functional.__all__ if not name.endswith("_backward") and name not in VARIANTS]
)
def test_every_functional_op_has_its_gradient_directly_below_it(name):
    """`op_backward` is what follows `op` and its variants, and takes the output's gradient first."""
    if name in ADJOINT:
        assert ADJOINT[name] in neighbours(name)[:1] or name in neighbours(ADJOINT[name])[:1]
        return
    below = next(other for other in neighbours(name) if VARIANTS.get(other) != name)
    assert below == f"{name}_backward"
    assert below in functional.__all__
    function = next(functions[below] for functions in FUNCTIONAL.values() if below in functions)
    assert function.args.args[0].arg.startswith("grad_")


def test_every_gradient_is_that_of_an_operation():
    names = {name for functions in FUNCTIONAL.values() for name in functions}
    for gradient in (name for name in names if name.endswith("_backward") and not name.startswith("_")):
        op = gradient.removesuffix("_backward")
        assert op in names
        assert (op in functional.__all__) == (
            gradient in functional.__all__
        )  # what several modules share is in neither


# Modules by name, compiled ones and kernels included: what a test may be of.
SUBJECTS = {
    **MODULES,
    **{module_name(path): path for path in [*PACKAGE.glob("*.pyx"), *KERNELS] if path.suffix == ".pyx"},
}


def mirrored(module):
    """Return the path without its ending of the tests of a module: that of the module, without leading underscores."""
    *folders, name = (part.strip("_") for part in module.split(".")[1:])
    return Path(ROOT / "tests", *folders, f"test_{name}")


def is_private(module):
    return any(part.startswith("_") for part in module.split(".")) and not module.endswith("__main__")


@functools.cache
def users(module):
    """Return the Python modules that use a private one, kernels by way of `_dispatch`."""
    kernel = module.removeprefix("cyconv._kernels.")
    uses = module if kernel == module else f"{DISPATCH}.{kernel}"
    return {name for name, path in MODULES.items() if uses in own_imports(path)} - {module}


def subjects_of(module):
    """Return the modules whose tests are those of a module: itself; of a private one also those that use it."""
    if not is_private(module):
        return {module}
    return {module}.union(*(subjects_of(user) for user in users(module) if user != "cyconv"))


@pytest.mark.parametrize("module", [name for name, path in SUBJECTS.items() if path.stem != "__init__"])
def test_every_module_is_tested(module):
    """A public one by the file with its path and name, a private one at least by that of a module that uses it."""
    assert any(mirrored(name).with_suffix(".py").exists() for name in subjects_of(module)), (
        f"{mirrored(module).with_suffix('.py').relative_to(ROOT)} is missing"
    )


@pytest.mark.parametrize(
    "path", sorted((ROOT / "tests").rglob("test_*.py")), ids=lambda path: str(path.relative_to(ROOT))
)
def test_every_test_file_is_of_a_module(path):
    """It lies where the module does, and has its name, or that of the folder, perhaps with more behind it."""
    if path.parent == ROOT / "tests" and path.stem.removeprefix("test_") in OF_THE_WHOLE:
        return
    subjects = {mirrored(name) for name in SUBJECTS if name != "cyconv"}
    subjects |= {mirrored(f"{name}.{name.rpartition('.')[2]}") for name in SUBJECTS if name != "cyconv"}
    names = [subject.name for subject in subjects if subject.parent == path.parent]
    assert any(path.stem == name or path.stem.startswith(f"{name}_") for name in names)


def test_parts_are_first_used_by_several_threads():
    """Each finds its part whole, whoever else loads another at the same time; a slow disk makes that likelier."""
    code = """
    import random, sys, threading, time

    class SlowDisk:
        def find_spec(self, name, path=None, target=None):
            if name.startswith("cyconv."):
                time.sleep(0.01 * random.random())

    import numpy as np, cyconv
    sys.meta_path.insert(0, SlowDisk())
    x = np.zeros((2, 1, 32, 32), np.float32)
    failed, start = [], threading.Barrier(8)

    def use(name):
        start.wait()
        try:
            getattr(cyconv, name)
            assert cyconv.models.lenet5(seed=0).predict(x).shape == (2, 10)
        except BaseException as error:
            failed.append(f"{name}: {type(error).__name__}: {error}")

    names = random.sample(["analysis", "data", "layers", "models", "nas", "losses", "training", "schedules",
                           "diagnose", "functional", "Network", "visualize", "averaging", "optimizers"], 8)
    callers = [threading.Thread(target=use, args=(name,)) for name in names]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    print(*failed)
    """
    for _ in range(10):
        assert processes.output(code).strip() == ""


def test_a_fork_waits_for_what_other_threads_import():
    code = """
    import os, sys, threading, time

    class SlowDisk:
        def find_spec(self, name, path=None, target=None):
            if name.startswith("cyconv."):
                started.set()
                time.sleep(0.1)

    import cyconv
    started = threading.Event()
    sys.meta_path.insert(0, SlowDisk())
    loading = threading.Thread(target=lambda: cyconv.metrics)
    loading.start()
    started.wait()
    child = os.fork()
    if not child:
        cyconv.metrics
        os._exit(0)
    end = time.monotonic() + 20
    while not (status := os.waitpid(child, os.WNOHANG))[0] and time.monotonic() < end:
        time.sleep(0.01)
    if not status[0]:
        os.kill(child, 9)
    loading.join()
    print("right" if status[0] and status[1] == 0 else "hangs")
    """
    assert processes.output(code, warnings="ignore::DeprecationWarning") == "right\n"


def test_type_checkers_find_names_that_do_not_exist(tmp_path):
    pytest.importorskip("mypy")
    path = tmp_path / "snippet.py"
    path.write_text("import cyconv\ncyconv.models.lenet5\ncyconv.Network\ncyconv.nonsense\ncyconv.sklearn.nonsense\n")
    command = [sys.executable, "-m", "mypy", "--follow-imports=silent", "--ignore-missing-imports", str(path)]
    done = subprocess.run(command, cwd=ROOT, env=processes.environment(), capture_output=True, text=True)
    found = re.findall(r'py:(\d+): error: Module has no attribute "nonsense"', done.stdout)
    assert found == ["4", "5"], done.stdout + done.stderr
    assert done.stdout.count(" error: ") == 2


def test_a_checkout_that_is_not_built_says_how_to_build_it(tmp_path):
    for path in FILES:
        target = tmp_path / path.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(path.read_text(encoding="utf-8"), encoding="utf-8")
    status, _, said = processes.run(f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import cyconv")
    assert status == 1
    assert re.search(r"ImportError: cyconv: \S+ has no compiled modules for Python 3\.\d+ \(_cpu, .*`pip install", said)
    assert "partially initialized" not in said
