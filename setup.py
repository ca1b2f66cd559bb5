"""Build the compiled part of cyconv: every kernel once per instruction set, plus the support modules.

Environment variables choose what is built:

- ``CYCONV_BUILD_ISA``: only these instruction sets ("avx512", or "baseline,avx2"), for quick rebuilds
- ``CYCONV_NO_OPENMP=1``: a build for one thread, where the compiler has no OpenMP
- ``CYCONV_DEBUG=1``: bounds checks
- ``LIBOMP_PREFIX``: where libomp lies on macOS, if not where Homebrew installs it
"""

import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import takewhile
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.errors import CompileError

# Each set's flags, the preferred ones first: levels of the x86-64 ABI, which gcc 11 and clang 12 introduced, then the
# same features by name. Portable levels only: a wheel must run on any machine of its architecture, so never
# -march=native. The macros show that the compiler obeys: some ignore flags that they do not know.
SSE = ["-mcx16", "-mpopcnt", "-msse4.2"]
AVX2 = [*SSE, "-mavx2", "-mbmi", "-mbmi2", "-mf16c", "-mfma", "-mlzcnt", "-mmovbe"]
AVX512 = [*AVX2, "-mavx512f", "-mavx512bw", "-mavx512cd", "-mavx512dq", "-mavx512vl"]
WIDE = "-mprefer-vector-width=512"
X86_FLAGS = {
    "baseline": [["-march=x86-64-v2"], SSE],
    "avx2": [["-march=x86-64-v3"], AVX2],
    "avx512": [["-march=x86-64-v4", WIDE], [*AVX512, WIDE]],
}
MACROS = {
    "baseline": ["__SSE4_2__"],
    "avx2": ["__AVX2__", "__FMA__", "__BMI2__"],
    "avx512": ["__AVX512F__", "__AVX512BW__", "__AVX512CD__", "__AVX512DQ__", "__AVX512VL__", "__FMA__"],
}
IS_X86 = platform.machine().lower() in ("x86_64", "amd64", "x64")
INSTRUCTION_SETS = tuple(X86_FLAGS) if IS_X86 else ("baseline",)

KERNELS = [
    "activation", "avg_pool2d", "channel_activation", "conv2d", "conv2d_weight", "elementwise", "filter2d", "gemm",
    "group_normalization", "grouped", "grouped_weight", "im2col", "images", "lstm", "max_pool2d", "normalization",
    "optimizer", "planar", "resample", "response_normalization", "smooth_activation", "softmax", "winograd",
]  # fmt: skip
SUPPORT = ["_cpu", "_memory", "_replay", "_shared"]

SHARED = "_shared"  # the module of Cython's own helpers, which memoryviews need: once, not in each module
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

OPENMP_PROGRAM = """
#include <omp.h>
#ifndef _OPENMP
#error "OpenMP is off"
#endif
int main(void) {
  int threads = 0;
  #pragma omp parallel num_threads(2) reduction(+ : threads)
  threads += 1;
  return threads < 1 || omp_get_max_threads() < 1;
}
"""


def wanted_instruction_sets() -> list[str]:
    """Return the instruction sets to build: CYCONV_BUILD_ISA's, else all."""
    wanted = [tag.strip() for tag in os.environ.get("CYCONV_BUILD_ISA", "").split(",") if tag.strip()]
    if unknown := [tag for tag in wanted if tag not in INSTRUCTION_SETS]:
        sys.exit(f"cyconv: CYCONV_BUILD_ISA: {', '.join(map(repr, unknown))} is none of {', '.join(INSTRUCTION_SETS)}")
    return wanted or list(INSTRUCTION_SETS)


def complaint(compiler, program: str, flags: list[str], link: list[str], run: bool) -> str | None:
    """Return what goes wrong when a C program is compiled with `flags`, and with `run` linked and run; else None.

    The compiler is that of the extensions, a distutils object with their environment (CC, CFLAGS, LDFLAGS).
    """
    with tempfile.TemporaryDirectory() as folder:
        source, log = Path(folder, "probe.c"), Path(folder, "log")
        source.write_text(program)
        try:
            with said_to(log):
                objects = compiler.compile([str(source)], output_dir=folder, extra_postargs=flags)
                if run:
                    compiler.link_executable(objects, "probe", output_dir=folder, extra_postargs=link)
                    program_file = Path(folder, compiler.executable_filename("probe"))
                    subprocess.run([str(program_file)], check=True, timeout=60)
        except Exception as error:  # each kind of compiler has its own ones
            lines = log.read_text(errors="replace").splitlines()
            return next((line.strip() for line in lines if "error" in line.lower()), str(error))
    return None


@contextmanager
def said_to(path: Path) -> Iterator[None]:
    """Send what this process and those that it starts print to a file."""
    sys.stdout.flush()
    sys.stderr.flush()
    before = [os.dup(number) for number in (1, 2)]
    try:
        with open(path, "wb") as file:
            for number in (1, 2):
                os.dup2(file.fileno(), number)
            yield
    finally:
        for number, saved in zip((1, 2), before, strict=True):
            os.dup2(saved, number)
            os.close(saved)


def named(compiler) -> str:
    """Return the command of a compiler without its flags, for messages."""
    command = getattr(compiler, "compiler", None) or [getattr(compiler, "cc", None) or "cl.exe"]
    return " ".join(takewhile(lambda part: not part.startswith("-"), command))


def openmp_flags(compiler) -> tuple[list[str], list[str]]:
    """Return the compile and link flags for OpenMP, none if CYCONV_NO_OPENMP=1; a compiler without it is an error."""
    if os.environ.get("CYCONV_NO_OPENMP", "0") == "1":
        return [], []
    candidates = [(["-fopenmp"], ["-fopenmp"])]
    if sys.platform == "win32":
        candidates = [(["-openmp"], [])]
    elif sys.platform == "darwin":  # Apple's clang has no runtime of its own
        prefixes = [os.environ.get("LIBOMP_PREFIX"), "/opt/homebrew/opt/libomp", "/usr/local/opt/libomp"]
        candidates += [
            (["-Xpreprocessor", "-fopenmp", f"-I{prefix}/include"], [f"-L{prefix}/lib", "-lomp"])
            for prefix in prefixes
            if prefix
        ]
    said = []
    for flags, link in candidates:
        reason = complaint(compiler, OPENMP_PROGRAM, flags, link, run=True)
        if reason is None:
            return flags, link
        said.append(reason)
    raise CompileError(
        f"cyconv needs OpenMP, but a small program with it cannot be built and run by `{named(compiler)}`: {said[-1]}\n"
        "Install OpenMP (macOS: `brew install libomp`; Debian, Ubuntu: `apt install gcc libgomp1`; conda: `conda "
        "install compilers`), name another compiler (CC=gcc), or build for one thread only: CYCONV_NO_OPENMP=1."
    )


def isa_flags(compiler, isa: str) -> list[str]:
    """Return the compile flags of an instruction set; a compiler that cannot make it is an error."""
    if not IS_X86:
        return []
    program = "".join(f'#ifndef {macro}\n#error "{macro} is off"\n#endif\n' for macro in MACROS[isa])
    for flags in X86_FLAGS[isa]:
        reason = complaint(compiler, f"{program}int probe(void) {{ return 0; }}\n", flags, [], run=False)
        if reason is None:
            return flags
    others = ",".join(tag for tag in INSTRUCTION_SETS if tag != isa)
    raise CompileError(
        f"cyconv: `{named(compiler)}` cannot compile the {isa} kernels: {reason}\n"
        f"Name another compiler (CC=gcc; gcc 8, clang 8 or newer), or leave them out: CYCONV_BUILD_ISA={others}"
    )


def extension(name: str, source: str) -> Extension:
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
        extra_compile_args=[*optimise, *maths],
        extra_link_args=[*strip, *([f"-fsanitize={SANITIZERS}"] if SANITIZERS else [])],
    )


def support_modules() -> list[Extension]:
    """Return the extensions that every instruction set shares."""
    return [extension(name, f"cyconv/{name}.{'c' if name == SHARED else 'pyx'}") for name in SUPPORT]


def kernel_modules(isa: str) -> list[Extension]:
    """Return the extensions of the kernels for one instruction set, in a folder of their own."""
    return [extension(f"_kernels.{isa}.{name}", f"cyconv/_kernels/{name}.pyx") for name in KERNELS]


def headers(source: str) -> set[str]:
    """Return the C headers that a Cython file or header, or a header in it, includes."""
    text = Path(source).read_text(encoding="utf-8")
    paths = [Path("cyconv/_kernels", name) for name in re.findall(r'(?:from|include) "(\w+\.h)"', text)]
    return {str(path) for path in paths} | {name for path in paths for name in headers(str(path))}


def needed(source: str) -> list[str]:
    """Return the files of cyconv, besides the C file made from it, that a Cython file's module depends on."""
    from Cython.Build.Dependencies import create_dependency_tree

    if not source.endswith(".pyx"):
        return []
    files = create_dependency_tree(quiet=True).all_dependencies(source)
    own = {os.path.relpath(file) for file in files if Path(file).resolve().is_relative_to(ROOT.resolve())}
    return sorted(own | {name for file in own for name in headers(file)})


def note(path: Path, text: str) -> None:
    """Write a file unless that is its content already, so that its time is that of the last change."""
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


class BuildKernels(build_ext):
    """Find the compiler's flags, translate Cython to C and compile, on all cores unless the user said otherwise.

    A module is built anew if a file or a setting that it was made from has changed. One of an instruction set that is
    not built now is removed then, since nobody would notice that it is old.
    """

    def finalize_options(self):
        super().finalize_options()
        if self.parallel is None:
            self.parallel = os.cpu_count()

    def run(self):
        self.in_place = bool(self.inplace)  # which setuptools clears while it builds
        super().run()

    def build_extensions(self):
        from Cython.Build import cythonize

        compile_openmp, link_openmp = openmp_flags(self.compiler)
        settings = Path("build", "settings-sanitize.txt" if SANITIZERS else "settings.txt")
        example, command = extension("example", ""), getattr(self.compiler, "compiler_so", None)
        said = [command, example.extra_compile_args, example.extra_link_args, compile_openmp, DIRECTIVES]
        note(settings, "".join(f"{each}\n" for each in said))
        self.settings = str(settings)

        groups: dict[str, list[Extension]] = {}
        for module in self.extensions:
            parts = module.name.split(".")
            groups.setdefault(parts[2] if parts[1] == "_kernels" else "support", []).append(module)
        for group, modules in groups.items():
            flags = [] if group == "support" else isa_flags(self.compiler, group)
            print(f"cyconv: {group}: {len(modules)} modules, {' '.join([*flags, *compile_openmp]) or 'no flags'}")
            for module in modules:
                module.extra_compile_args += [*flags, *compile_openmp]
                module.extra_link_args += link_openmp
                module.depends += [*needed(module.sources[0]), self.settings]
            # A folder for each: two instruction sets sharing one would overwrite each other's C.
            translated = cythonize(
                modules,
                build_dir=f"build/cython/{'debug-' if DEBUG else ''}{group}",
                compiler_directives=DIRECTIVES,
                shared_utility_qualified_name=f"cyconv.{SHARED}",
                nthreads=self.parallel,
            )
            sources = {module.name: module.sources for module in translated}
            for module in modules:
                module.sources = sources[module.name]
        for home in (Path(self.build_lib), *([Path()] if self.in_place else [])):
            self.remove_stale(home / "cyconv/_kernels")
        super().build_extensions()

    def copy_extensions_to_source(self):
        for module in self.extensions:
            Path(*module.name.split(".")).parent.mkdir(exist_ok=True)
        super().copy_extensions_to_source()

    def remove_stale(self, home: Path) -> None:
        """Remove the instruction sets that are not built now; from a build in place only those that are out of date."""
        built = {module.name.split(".")[2] for module in self.extensions if "._kernels." in module.name}
        for isa in {*X86_FLAGS} - built:
            folder = home / isa
            paths = {folder / self.get_ext_filename(name): f"cyconv/_kernels/{name}.pyx" for name in KERNELS}
            if folder.exists() and not (
                self.in_place and all(is_current(path, [*needed(src), self.settings]) for path, src in paths.items())
            ):
                print(f"cyconv: removing {folder}, which is not built now" + ", and out of date" * self.in_place)
                shutil.rmtree(folder)


def is_current(module: Path, sources: list[str]) -> bool:
    """Return whether a compiled module exists and is newer than what it was made from."""
    return module.exists() and all(os.path.getmtime(source) <= os.path.getmtime(module) for source in sources)


def main() -> None:
    """Run setuptools from the root of the source tree."""
    os.chdir(ROOT)
    if sys.platform == "darwin":  # not for two architectures at once: flags, and Homebrew's libomp, are for one
        os.environ.setdefault("ARCHFLAGS", f"-arch {platform.machine()}")
    modules = [*support_modules(), *(module for isa in wanted_instruction_sets() for module in kernel_modules(isa))]
    packages = sorted(".".join(path.parent.parts) for path in Path("cyconv").rglob("__init__.py"))
    setup(ext_modules=modules, packages=packages, cmdclass={"build_ext": BuildKernels})


if __name__ == "__main__":  # processes that translate Cython import this file, where they are spawned
    main()
