# Everything starts from a machine with Python >= 3.11, a C compiler and a package index.
PYTHON ?= python3
VENV ?= .venv
PEERS ?= .venv-peers
BIN = $(VENV)/bin
# Without the frame of warnings that setuptools prints at every editable installation.
INSTALL = PYTHONWARNINGS=ignore $(BIN)/python -m pip install --quiet
# Three workers for two cores, since tests often wait for processes that they have started; and files in the
# order of their names, since those of few tests, which would come last, are the longest.
WORKERS = -n 3 --dist loadfile --no-loadscope-reorder
NATIVE = $(shell find envs mcts agents rlhf benchmarks -name "*.pyx" -o -name "*.pxd" -o -name "*.h")

.PHONY: help demo test test-slow test-peers lint packages wheels sanitize bench clean

help: ## show this list
	@grep -E '^[a-z-]+:.*##' Makefile | sed -E 's/:.*## /\t/' | expand -t 14

demo: $(VENV)/.installed ## learn Connect Four by self-play, rate the agent, show a game
	$(BIN)/playout alphazero connect_four --demo --run runs/demo

test: $(VENV)/.installed-test ## run the tests
	$(BIN)/python -m pytest -m "not slow" $(WORKERS) $(PYTEST_ARGS)

test-slow: $(VENV)/.installed-test ## run the tests that take more than half a second of a core each
	$(BIN)/python -m pytest -m slow $(WORKERS) $(PYTEST_ARGS)

lint: $(VENV)/.installed-test ## style, types, and the import contract
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	PATH="$(abspath $(BIN)):$$PATH" cython-lint envs mcts agents rlhf benchmarks
	mkdir -p $(VENV)/types && ln -sfn $(CURDIR) $(VENV)/types/playout && MYPYPATH=$(VENV)/types $(BIN)/mypy -p playout
	$(BIN)/lint-imports
	$(BIN)/python benchmarks/tools/report.py --check

test-peers: $(PEERS)/.installed ## run the tests that compare with other libraries, in an environment of their own
	$(PEERS)/bin/python -m pytest -m peer $(WORKERS) $(PYTEST_ARGS)

packages: $(VENV)/.installed-test ## build sdist and wheel, and use the wheel in an empty folder
	$(BIN)/python tests/packaging/check.py

wheels: ## build a wheel for every Python found (3.11 and newer) into dist/
	.ci/wheels

sanitize: $(VENV)/.installed-test ## run native code under the address, undefined-behaviour and thread sanitizers
	.ci/sanitize $(BIN)/python

bench: $(VENV)/.installed ## measure playout on this machine (peers are measured where installed)
	$(BIN)/playout bench

$(BIN)/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "playout needs Python 3.11 or newer; try make PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(INSTALL) --upgrade pip

$(VENV)/.installed: $(BIN)/python pyproject.toml setup.py $(NATIVE)
	$(INSTALL) --editable .
	touch $@

# The build tools stay in the environment, so that tests can build example packages without a network.
$(VENV)/.installed-test: $(BIN)/python pyproject.toml setup.py $(NATIVE)
	$(INSTALL) "setuptools>=77" wheel build "Cython>=3.1" "numpy>=2"
	$(INSTALL) --no-build-isolation --editable ".[test,lint]"
	touch $@ $(VENV)/.installed

# Other libraries, pinned, beside everything in $(VENV), which they see but cannot change: the line in
# borrowed.pth adds its packages, torch among them, but not its editable installation.
$(PEERS)/.installed: $(VENV)/.installed-test
	$(PYTHON) -m venv $(PEERS)
	$(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))' \
	  > $$(echo $(PEERS)/lib/python*/site-packages)/borrowed.pth
	$(PEERS)/bin/python -m pip install --quiet --upgrade pip "setuptools>=77"
	PYTHONWARNINGS=ignore $(PEERS)/bin/python -m pip install --quiet --prefer-binary --no-build-isolation --editable ".[peers]"
	touch $@

clean: ## remove everything that was built
	rm -rf $(VENV) $(PEERS) build dist *.egg-info
	find . -name '*.so' -not -path './.venv*' -delete
