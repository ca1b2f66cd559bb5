# Every target sets itself up in .venv: it needs Python 3.11 or newer, a C compiler and make, nothing else.
#   make train   train LeNet-5 on the bundled digits; weights, history and figures go to runs/
#   make test    build in place and run the whole test suite, doctests included
#   make test-debug   the same on kernels with bounds checks, built in build/debug
#   make test-torch   run the tests that compare with PyTorch, which is installed into .torch-venv
#   make docs    write docs/operations.md, and the tables of docs/models.md and README.md, from what the tests run
#   make sanitize   run the tests of the kernels and of the functions on a build of its own with gcc's sanitizers
#   make test-clang  the same with clang and LLVM's OpenMP runtime (apt install clang libomp-dev)
#   make bench   measure beside PyTorch and NumPy; KINDS="train memory" for less than all of it
# Variables: PYTHON (the interpreter to start from), ARGS (more arguments for the command that a target runs),
# SANITIZED (the instruction set that make sanitize builds).

PYTHON ?= python3
ARGS ?=
KINDS ?= all
TORCH ?= torch==2.13.0
SANITIZED ?= baseline
CLANG ?= clang

COMPILED := $(shell find cyconv -name '*.pyx' -o -name '*.pxd' -o -name '*.h')

.PHONY: train test test-slow test-debug test-clang test-torch sanitize docs bench lint clean

train: .venv/installed
	.venv/bin/python -m cyconv train --out runs/lenet5-digits $(ARGS)

test: .venv/installed
	.venv/bin/python -m pytest $(ARGS)

# Built by clang with LLVM's OpenMP runtime, as on macOS, in a copy: the ordinary build stays as it is.
test-clang: .venv/installed
	mkdir -p build/clang
	git ls-files -z --cached | xargs -0 cp --parents --target-directory=build/clang
	cd build/clang && CC="$(CLANG)" PYTHONPATH="$$PWD" ../../.venv/bin/python setup.py build_ext --inplace
	cd build/clang && PYTHONPATH="$$PWD" ../../.venv/bin/python -m pytest $(ARGS)

test-slow: .venv/installed
	.venv/bin/python -m pytest -m slow $(ARGS)

test-debug: .venv/installed
	mkdir -p build/debug
	tar cf - --exclude=./build --exclude=./.git --exclude='./.*venv' --exclude='*.so' . | tar xf - -C build/debug
	cd build/debug && CYCONV_DEBUG=1 $(CURDIR)/.venv/bin/python setup.py build_ext --inplace
	cd build/debug && $(CURDIR)/.venv/bin/python -m pytest $(ARGS)

test-torch: .torch-venv/installed
	.torch-venv/bin/python -m pytest -m torch $(ARGS)

# -P and append: the package is build/sanitize's, though the tests are found here.
sanitize: .venv/installed
	CYCONV_SANITIZE=address,undefined CYCONV_BUILD_ISA=$(SANITIZED) .venv/bin/python setup.py -q \
		build --build-base build/sanitize --build-lib build/sanitize/lib
	LD_PRELOAD="$$(gcc -print-file-name=libasan.so) $$(gcc -print-file-name=libubsan.so)" \
	ASAN_OPTIONS=detect_leaks=0 UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1 PYTHONMALLOC=malloc \
	PYTHONPATH=build/sanitize/lib CYCONV_ISA=$(SANITIZED) \
		.venv/bin/python -P -m pytest --import-mode=append -p no:cacheprovider -q -x tests/kernels tests/functional $(ARGS)

docs: .venv/installed
	.venv/bin/python -m tests.operations_page
	.venv/bin/python -m tests.models_page
	.venv/bin/python -m tests.results_page

bench: .torch-venv/installed
	mkdir -p runs
	.torch-venv/bin/python -m benchmarks $(KINDS) --json runs/benchmarks.json --plot runs/benchmarks.png $(ARGS)

# cython-lint calls pycodestyle by name, so it needs the path.
lint: .venv/installed
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
	PATH="$(CURDIR)/.venv/bin:$$PATH" cython-lint cyconv

clean:
	rm -rf build dist cyconv.egg-info .venv .torch-venv .pytest_cache .hypothesis .mypy_cache .ruff_cache
	rm -rf cyconv/_kernels/*/
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
	find cyconv -name '*.so' -delete

# An editable install: Python sources are used where they lie, so only these files make it stale.
.venv/installed: pyproject.toml setup.py $(COMPILED)
	test -x .venv/bin/python || $(PYTHON) -m venv .venv
	@echo "Installing what is needed and compiling; this takes some minutes the first time."
	.venv/bin/python -m pip install -qq --editable ".[dev,plot,image,sklearn]"
	touch $@

# PyTorch stays out of .venv: the tests must pass without it. All else is that of .venv, cyconv's build included.
.torch-venv/installed: .venv/installed
	test -x .torch-venv/bin/python || .venv/bin/python -m venv .torch-venv
	.torch-venv/bin/python -m pip install -qq $(TORCH)
	@for of in .venv .torch-venv; do $$of/bin/python -c "import sysconfig; print(sysconfig.get_path('purelib'))"; done | \
		{ read -r venv && read -r own && printf '%s\n' "$(CURDIR)" "$$venv" >"$$own/venv.pth"; }
	touch $@
