"""Build the compiled part of cyconv: every kernel once per instruction set, plus the support modules."""

import os
import platform
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

# Portable levels only: a wheel must run on any machine of its architecture, so never -march=native.
X86_LEVELS = {
    "baseline": ["-march=x86-64-v2"],
    "avx2": ["-march=x86-64-v3"],
    "avx512": ["-march=x86-64-v4", "-mprefer-vector-width=512"],
}
IS_X86 = platform.machine().lower() in ("x86_64", "amd64", "x64")
INSTRUCTION_SETS = X86_LEVELS if IS_X86 else {"baseline": []}
if os.environ.get("CYCONV_BUILD_ISA"):  # for quick rebuilds while developing: "avx512", or "baseline,avx2"
    wanted = [tag.strip() for tag in os.environ["CYCONV_BUILD_ISA"].split(",")]
    if unknown := [tag for tag in wanted if tag not in INSTRUCTION_SETS]:
        sys.exit(f"cyconv: CYCONV_BUILD_ISA: {', '.join(map(repr, unknown))} is none of {', '.join(INSTRUCTION_SETS)}")
    INSTRUCTION_SETS = {tag: INSTRUCTION_SETS[tag] for tag in wanted}

KERNELS = [
    "activation", "avg_pool2d", "channel_activation", "conv2d", "conv2d_weight", "elementwise", "filter2d", "gemm",
    "group_normalization", "grouped", "grouped_weight", "im2col", "images", "lstm", "max_pool2d", "normalization",
    "optimizer", "planar", "resample", "response_normalization", "smooth_activation", "softmax", "winograd",
]  # fmt: skip

SHARED = "cyconv._shared"  # the module with Cython's own helpers
DEBUG = os.environ.get("CYCONV_DEBUG", "0") == "1"
SANITIZERS = os.environ.get("CYCONV_SANITIZE", "")  # as -fsanitize takes them: `make sanitize`
ROOT = Path(__file__).parent
DIRECTIVES = {
    "language_level": 3,
    "boundscheck": DEBUG,
    "wraparound": False,
    "cdivision": True,
    "initializedcheck": DEBUG,
    "embedsignature": True,
}


def openmp_flags() -> dict[str, list[str]]:
    """Return the OpenMP compile and link flags, or none (a serial build) where a test program does not link."""
    if sys.platform == "win32":
        candidate = {"compile": ["-openmp"], "link": []}
    elif sys.platform == "darwin":  # Apple's clang has no runtime of its own: `brew install libomp` provides one
        prefix = os.environ.get("LIBOMP_PREFIX", "/opt/homebrew/opt/libomp")
        candidate = {
            "compile": ["-Xpreprocessor", "-fopenmp", f"-I{prefix}/include"],
            "link": [f"-L{prefix}/lib", "-lomp"],
        }
    else:
        candidate = {"compile": ["-fopenmp"], "link": ["-fopenmp"]}
    compiler = os.environ.get("CC", "clang-cl" if sys.platform == "win32" else "cc").split()
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "probe.c")
        source.write_text("#include <omp.h>\nint main(void) { return omp_get_max_threads() < 1; }\n")
        command = [*compiler, *candidate["compile"], str(source), "-o", str(Path(folder, "probe")), *candidate["link"]]
        try:
            subprocess.run(command, check=True, capture_output=True)
        except (OSError, subprocess.CalledProcessError):
            print(
                "cyconv: the C compiler has no OpenMP; building the serial version. "
                "On macOS: `brew install libomp`. On Debian or Ubuntu: `apt install libgomp1`.",
                file=sys.stderr,
            )
            return {"compile": [], "link": []}
    return candidate


def headers(source: Path) -> list[str]:
    """Return the C headers that a source or header, or a header in it, includes."""
    found = re.findall(r'(?:from|include) "(\w+\.h)"', source.read_text(encoding="utf-8")) if source.exists() else []
    paths = [Path("cyconv/_kernels", name) for name in found]
    shared = [Path("cyconv/_kernels", name) for name in ("rows.h", "simd.h")]  # by way of the .pxd files
    if source.suffix == ".pyx":
        paths += shared
    return sorted({str(path) for path in paths} | {name for path in paths for name in headers(path)})


def extension(name: str, source: str, flags: list[str], openmp: dict[str, list[str]]) -> Extension:
    """Describe one compiled module; gcc's and clang's flags (on Windows clang-cl, for the vector extensions)."""
    # -g0: Python's own flags ask for debug information, which makes the wheel five times as large. Names and tables for
    # unwinding, which C does not need, would make a tenth of it.
    optimise = ["-O1", "-g"] if DEBUG else ["-O3", "-g0", "-fno-asynchronous-unwind-tables", "-fno-unwind-tables"]
    if SANITIZERS:
        optimise = ["-O1", "-g", "-fno-omit-frame-pointer", f"-fsanitize={SANITIZERS}"]
    strip = ["-Wl,-s"] if sys.platform.startswith("linux") and not (DEBUG or SANITIZERS) else []
    maths = ["-fno-math-errno", "-fno-trapping-math"]  # neither changes a result; without them loops stay scalar
    return Extension(
        f"cyconv.{name}",
        [source],
        include_dirs=["cyconv/_kernels"],
        depends=headers(Path(source)),
        extra_compile_args=[*optimise, *maths, *flags, *openmp["compile"]],
        extra_link_args=[*openmp["link"], *strip, *([f"-fsanitize={SANITIZERS}"] if SANITIZERS else [])],
    )


def all_extensions() -> list[Extension]:
    """Return the extensions: support modules, then each kernel once per instruction set in a folder of its own."""
    openmp = openmp_flags()
    # What Cython's memoryviews need stands once, in cyconv._shared, and not in each of the modules.
    options = {"compiler_directives": DIRECTIVES, "shared_utility_qualified_name": SHARED, "nthreads": os.cpu_count()}
    support = [extension(name, f"cyconv/{name}.pyx", [], openmp) for name in ("_cpu", "_memory", "_replay")]
    support.append(extension("_shared", "cyconv/_shared.c", [], openmp))
    modules = cythonize(support, build_dir="build/cython/support", **options)
    for isa, flags in INSTRUCTION_SETS.items():
        kernels = [
            extension(f"_kernels.{isa}.{name}", f"cyconv/_kernels/{name}.pyx", flags, openmp) for name in KERNELS
        ]
        # One build_dir each: two instruction sets sharing one would overwrite each other's generated C.
        modules += cythonize(kernels, build_dir=f"build/cython/{isa}", **options)
    return modules


class ParallelBuild(build_ext):
    """Compile on all cores unless the user said otherwise; there are dozens of independent modules."""

    def finalize_options(self):
        super().finalize_options()
        if self.parallel is None:
            self.parallel = os.cpu_count()


os.chdir(ROOT)
packages = [
    *sorted(".".join(path.parent.parts) for path in Path("cyconv").rglob("__init__.py")),
    *(f"cyconv._kernels.{isa}" for isa in INSTRUCTION_SETS),
]
for isa in INSTRUCTION_SETS:
    Path("cyconv/_kernels", isa).mkdir(exist_ok=True)  # the compiled modules' home in a build in place
setup(ext_modules=all_extensions(), packages=packages, cmdclass={"build_ext": ParallelBuild})
