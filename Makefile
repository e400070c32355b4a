# Every check by its own name; `make test` is all but the long ones. A clone needs Python >= 3.11, make and a network.
#
#   make demo                                   three parties on this machine, one fit
#   make test                                   the checks: about ten minutes on two cores
#   make lint|types|torch|examples|unit|ray|build     one of them
#   make notebook|faults|dashboard              the notebook; processes that are killed, or are many; Ray's dashboard
#   make faults KILLS=50                        as many runs whose processes are killed at random moments
#   make unit VENV=.venv-3.13 PYTHON=python3.13    under another interpreter, in an environment of its own
#   make format|clean|help

.DEFAULT_GOAL := help
.NOTPARALLEL:

VENV := .venv
RUN := $(VENV)/bin/python
PIP := PIP_DISABLE_PIP_VERSION_CHECK=1 $(RUN) -m pip install -qq --no-compile

# An interpreter named on the command line is taken at its word and checked below. Otherwise: the first one that runs,
# is new enough and can make an environment (a version manager's shim may be on the PATH and still refuse to run).
ADEQUATE := import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))
PYTHON := $(shell for name in python3 python3.11 python3.12 python3.13; do \
    "$$name" -c '$(ADEQUATE)' >/dev/null 2>&1 && { echo "$$name"; break; }; done; true)

# Otherwise every process compiles all modules, and pytest rewrites every test, anew.
unexport PYTHONDONTWRITEBYTECODE

# Runs a notebook without Jupyter.
define CELLS
import json, sys
with open(sys.argv[1], encoding="utf-8") as file:
    cells = json.load(file)["cells"]
exec("\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"))
endef
export CELLS

AFTER_LINT := $(MAKE) --no-print-directory --old-file=$(VENV)/.installed-dev

# Folders that hold Python files and are no part of the package.
BESIDES := $(patsubst %/,%,$(sort $(dir $(wildcard tests/*.py examples/*.py benchmarks/*.py))))

.PHONY: help demo test lint types torch examples notebook unit ray faults dashboard observed build format clean

help:
	@sed -n 's/^#   //p' Makefile

demo: $(VENV)/.installed
	@$(RUN) -m tacit demo

# mypy takes one core, pip and then the examples the other; what all of them need is there once `lint` is through.
# pytest without Ray comes last, so that the last line is the count of most of the tests.
test: lint
	@$(AFTER_LINT) types & typed=$$!; $(AFTER_LINT) torch examples; ended=$$?; wait $$typed && exit $$ended
	@$(AFTER_LINT) ray
	@$(AFTER_LINT) unit

lint: $(VENV)/.installed-dev
	@echo "==> ruff"
	@$(RUN) -m ruff check .
	@$(RUN) -m ruff format --check .

# The root is the package, so mypy must find it under its name: .typing/tacit is the root.
types: $(VENV)/.installed-dev
	@echo "==> mypy, strict"
	@mkdir -p .typing
	@ln -sfn .. .typing/tacit
	@$(RUN) -m mypy -p tacit
	@$(RUN) -m mypy $(BESIDES)

# Two at a time, each printed when it is over.
examples: $(VENV)/.installed-dev
	@printf '%s\n' $(sort $(wildcard examples/*.py)) | xargs -P 2 -n 1 sh -c \
	    'printed=$$($(RUN) "$$0" 2>&1); ended=$$?; printf "==> %s\n%s\n" "$$0" "$$printed"; exit $$ended'

notebook: torch
	@echo "==> examples/joint_training.ipynb, its cells as one script"
	@cd examples && "../$(RUN)" -c "$$CELLS" joint_training.ipynb

unit: $(VENV)/.installed-dev
	@echo "==> pytest without Ray"
	@$(RUN) -m pytest -q -n auto -m "not ray" -rs

# Two Rays at a time, as these tests mostly wait.
ray: $(VENV)/.installed-dev
	@echo "==> pytest with a local Ray cluster"
	@$(RUN) -m pytest -q -rs -n 2 --dist loadfile -m "ray and not faults" $$(grep -rl "mark\.ray" tests --include="*.py")

# What cannot be tested here (namespaces take root) is said; more than half an hour is a failure.
faults: $(VENV)/.installed-dev
	@echo "==> pytest with processes that are killed, or are many"
	@timeout --foreground 1800 $(RUN) -m pytest -q -rs -m faults $$(grep -rl "mark\.faults" tests --include="*.py")

# In an environment of its own, as with what Ray's dashboard and metrics take its head does not start from a folder whose
# name has a space.
empty :=
dashboard:
ifneq ($(findstring $(empty) $(empty),$(CURDIR)),)
	@echo "==> no test with Ray's dashboard: its head does not start with it from a folder whose name has a space"
else
	@$(MAKE) --no-print-directory VENV=.venv-deploy observed
endif

observed: $(VENV)/.installed-dashboard
	@echo "==> pytest with Ray's dashboard and metrics"
	@$(RUN) -m pytest -q -rs tests/actors/test_telemetry_ray.py tests/actors/test_hosts_database.py

# What trains networks. Without it, under another interpreter, their tests are skipped, and pytest says so.
torch: $(VENV)/.installed-torch

# Never `pip wheel .`: it resurrects deleted files from build/.
build: $(VENV)/.installed-dev
	@rm -rf build dist
	@$(RUN) -m build --no-isolation .

format: $(VENV)/.installed-dev
	@$(RUN) -m ruff check --fix .
	@$(RUN) -m ruff format .

clean:
	rm -rf .venv .venv-* .typing build dist tacit.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -prune -exec rm -rf {} +

# An editable install remembers its folder, so a checkout that was moved or renamed is installed anew.
ifneq ($(shell cat $(VENV)/.folder 2>/dev/null),$(CURDIR))
.PHONY: $(VENV)/.installed $(VENV)/.installed-dev
endif

$(VENV)/.installed: pyproject.toml | $(RUN)
	@echo "==> installing tacit and what it needs into $(VENV) (about a minute the first time)"
	@$(PIP) --editable .
	@pwd > $(VENV)/.folder
	@touch $@

$(VENV)/.installed-dev: pyproject.toml | $(RUN)
	@echo "==> installing tacit, what it needs and its checks into $(VENV) (about a minute the first time)"
	@$(PIP) --editable ".[dev]"
	@pwd > $(VENV)/.folder
	@touch $@ $(VENV)/.installed

$(VENV)/.installed-torch: $(VENV)/.installed-dev
	@echo "==> installing torch into $(VENV)"
	@$(PIP) torch==2.13.0
	@touch $@

$(VENV)/.installed-dashboard: $(VENV)/.installed-dev
	@echo "==> installing what Ray's dashboard takes into $(VENV)"
	@$(PIP) --editable ".[deploy]"
	@touch $@

$(RUN):
	@"$(PYTHON)" -c '$(ADEQUATE)' 2>/dev/null || { \
	    echo "tacit needs Python 3.11 or newer with venv, and found none: $(or $(PYTHON),python3 is $$(python3 --version 2>&1))." >&2; \
	    echo "Install one (Debian: python3 and python3-venv), or name it: make $(MAKECMDGOALS) PYTHON=/path/to/python3.12" >&2; \
	    exit 1; }
	@echo "==> making $(VENV) with $(PYTHON) ($$("$(PYTHON)" --version))"
	@"$(PYTHON)" -m venv --clear $(VENV)
