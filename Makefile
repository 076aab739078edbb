# Everything a fresh checkout needs; `make` alone lists the targets.
# Needs Python >= 3.11, a C compiler and make; the rest goes into .venv.

PYTHON ?= python3
ARGS ?=

BIN := .venv/bin
READY := .venv/ready
NATIVE := setup.py pyproject.toml \
	$(shell find rnnkit -name '*.pyx' -o -name '*.px[di]') $(shell find csrc -name '*.[ch]')
COMPILED := $(shell sed -n 's/^    "\(rnnkit.*\.py\)",$$/\1/p' setup.py)

.PHONY: help train test bench lint style warnings interpreted wheel clean

help:
	@echo 'make train   train a language model with the defaults (ARGS="--cell gru notes.txt")'
	@echo 'make test    run the tests                            (ARGS="-k lstm")'
	@echo 'make bench   the speed of everything, on this machine (ARGS="--quick")'
	@echo 'make lint    style, types, and C without warnings'
	@echo 'make wheel   build the source archive and the wheel into dist/'
	@echo 'make clean   remove everything that was built, .venv too'
	@echo 'PYTHON=...   the Python for .venv (now: $(PYTHON))'

train: $(READY)
	$(BIN)/rnnkit train $(ARGS)

test: $(READY)
	$(BIN)/python -m pytest --numprocesses auto --maxprocesses 8 $(ARGS)

bench: $(READY)
	$(BIN)/python -m benchmarks $(ARGS)

lint: style warnings

style: $(READY)
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/mypy tests/test_annotations.py

# The compiler flags of setup.py come after CFLAGS, so warnings are errors for this build only.
warnings: $(READY)
	CFLAGS=-Werror $(BIN)/python setup.py --quiet build_ext --force \
		--build-temp build/lint --build-lib build/lint

# Of the Python that is compiled as it stands; the extension stays.
interpreted:
	find rnnkit -name '*.so' ! -name '_native.*' -delete
	rm -f $(READY)

wheel: $(READY)
	$(BIN)/python -m build

clean:
	rm -rf .venv build dist rnnkit.egg-info .pytest_cache .mypy_cache .ruff_cache
	find rnnkit \( -name '*.c' -o -name '*.so' \) -delete
	find . -name __pycache__ -prune -exec rm -rf {} +

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit(1)' || \
		{ echo 'rnnkit needs Python 3.11 or newer: make PYTHON=python3.12 ...' >&2; exit 1; }
	$(PYTHON) -m venv .venv

# Built again when what it is built from changes; other Python is used where it lies.
$(READY): $(NATIVE) $(COMPILED) | .venv/bin/python
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	touch $@
