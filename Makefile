# Every target sets itself up in .venv: it needs Python 3.11 or newer, a C compiler and make, nothing else.
#   make train   train LeNet-5 on the bundled digits; weights, history and figures go to runs/
#   make test    build in place and run the whole test suite, doctests included
#   make test-clang  the same with clang and LLVM's OpenMP runtime (apt install clang libomp-dev)
#   make docs    write docs/operations.md, and the table of docs/models.md, from what the tests run
#   make bench   measure beside PyTorch and NumPy; KINDS="train memory" for less than all of it
# Variables: PYTHON (the interpreter to start from), ARGS (more arguments for the command that a target runs).

PYTHON ?= python3
ARGS ?=
KINDS ?= all
TORCH ?= torch==2.13.0
CLANG ?= clang

COMPILED := $(shell find cyconv -name '*.pyx' -o -name '*.pxd' -o -name '*.h')

.PHONY: train test test-clang test-slow docs bench lint clean

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

docs: .venv/installed
	.venv/bin/python -m tests.operations_page
	.venv/bin/python -m tests.models_page

bench: .bench-venv/installed
	mkdir -p runs
	.bench-venv/bin/python -m benchmarks $(KINDS) --json runs/benchmarks.json --plot runs/benchmarks.png $(ARGS)

# cython-lint calls pycodestyle by name, so it needs the path.
lint: .venv/installed
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
	PATH="$(CURDIR)/.venv/bin:$$PATH" cython-lint cyconv

clean:
	rm -rf build dist cyconv.egg-info .venv .bench-venv .pytest_cache .hypothesis .mypy_cache .ruff_cache
	rm -rf cyconv/_kernels/*/
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
	find cyconv -name '*.so' -delete

# An editable install: Python sources are used where they lie, so only these files make it stale.
.venv/installed: pyproject.toml setup.py $(COMPILED)
	test -x .venv/bin/python || $(PYTHON) -m venv .venv
	@echo "Installing what is needed and compiling; this takes some minutes the first time."
	.venv/bin/python -m pip install -qq --editable ".[dev,plot,image,sklearn]"
	touch $@

# PyTorch stays out of .venv: the tests must pass without it.
.bench-venv/installed: .venv/installed
	test -x .bench-venv/bin/python || $(PYTHON) -m venv .bench-venv
	.bench-venv/bin/python -m pip install -qq --editable ".[bench]" $(TORCH)
	touch $@
