# Every target works when it is typed first: the environment is created when it is missing and renewed
# when requirements.lock or pyproject.toml change. Settings pass straight through:
#   make train model=base training.max_steps=100   is   nmt train model=base training.max_steps=100

SHELL := bash
.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help setup prepare train evaluate translate average test lint bench tensorboard lock clean

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PIP := $(BIN)/python -m pip install -qq --disable-pip-version-check --no-input
TORCH := $(shell sed -n 's/^torch==//p' requirements.lock)

# Settings of make itself, which are not passed on: the Python that .venv is made of, and the number of
# processes on this machine that train together.
PYTHON :=
GPUS := 1
# SIGUSR1, which Slurm sends before the time is up, is handed to the processes too; they have ten minutes for
# their checkpoint.
PATIENCE := --signals-to-handle=SIGTERM,SIGINT,SIGHUP,SIGQUIT,SIGUSR1 --shutdown-timeout=600

# The settings typed after the target, in the order in which they were typed, each quoted for the shell.
# GNU make keeps them in reverse, with a backslash before blanks and backslashes and with $ doubled.
BLANK := $(subst ,, )
WORDS = $(subst \$(BLANK),<blank>,$(subst \\,<backslash>,$(subst $$$$,$$,$(MAKEOVERRIDES))))
REVERSE = $(if $1,$(call REVERSE,$(wordlist 2,$(words $1),$1)) $(firstword $1))
QUOTE = '$(subst <backslash>,\,$(subst <blank>,$(BLANK),$(subst ','\'',$1)))'
SETTINGS = $(foreach word,$(call REVERSE,$(filter-out PYTHON=% GPUS=%,$(WORDS))),$(call QUOTE,$(word)))

help: ## show this list
	@echo "make TARGET [SETTING=VALUE ...]    such as: make train model=base training.max_steps=100"
	@echo
	@sed -n 's/^\([a-z]*\):[^#]*## \(.*\)/  \1|\2/p' Makefile | while IFS='|' read -r name text; do \
		printf '  %-12s %s\n' $$name "$$text"; done

setup: $(STAMP) ## create .venv and install what requirements.lock pins (PYTHON=python3.12 chooses the Python)

prepare: $(STAMP) ## check, clean and tokenise a corpus; `train` does it by itself
	@$(BIN)/nmt prepare $(SETTINGS)

train: $(STAMP) ## train a model: the demo without settings; GPUS=4 trains on four GPUs
ifeq ($(GPUS),1)
	@$(BIN)/nmt train $(SETTINGS)
else
	@$(BIN)/torchrun --standalone --nproc-per-node=$(GPUS) $(PATIENCE) -m nmt train $(SETTINGS)
endif

evaluate: $(STAMP) ## score a model: make evaluate model=runs/latest
	@$(BIN)/nmt evaluate $(SETTINGS)

translate: $(STAMP) ## translate text: make translate model=runs/latest input=in.txt output=out.txt
	@$(BIN)/nmt translate $(SETTINGS)

average: $(STAMP) ## average checkpoints: make average model=runs/latest last=5 output=averaged
	@$(BIN)/nmt average $(SETTINGS)

# Each worker computes on one thread; more would only wait for each other.
test: $(STAMP) ## run all tests
	@OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 $(BIN)/python -m pytest -q -n auto --maxprocesses=8 --dist worksteal

lint: $(STAMP) ## check style, format and types
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check --quiet . || { echo "not formatted; run: $(BIN)/ruff format ." >&2; exit 1; }
	@$(BIN)/mypy

bench: $(STAMP) ## run the benchmarks of scripts/
	@for script in scripts/bench_*.py; do \
		if [ -e "$$script" ]; then echo "== $$script"; $(BIN)/python "$$script" || exit; \
		else echo "scripts/ holds no bench_*.py yet"; fi; done

tensorboard: $(STAMP) ## show the curves of all runs in a browser
	@$(BIN)/tensorboard --logdir runs

# torch is written without its build (+cpu) and without the CUDA packages, which a CUDA build names itself.
lock: $(STAMP) ## resolve all packages anew and write requirements.lock
	@$(PIP) pip-tools
	@echo "torch==$(TORCH)" > $(VENV)/constraints.txt
	@$(BIN)/pip-compile --quiet --upgrade --extra dev --strip-extras --allow-unsafe --no-header --no-annotate \
		--no-emit-index-url --no-emit-find-links --no-emit-trusted-host \
		--constraint $(VENV)/constraints.txt --output-file $(VENV)/compiled.txt pyproject.toml
	@{ echo "# Written by 'make lock' with the oldest supported Python; all packages of the extra dev."; \
		sed -e 's/^\(torch==[^+]*\)+.*/\1/' $(VENV)/compiled.txt \
		| grep -E '^[A-Za-z]' | grep -vE '^(nvidia-|cuda-|triton==)'; } > requirements.lock

clean: ## remove caches, builds and prepared data; .venv and runs/ stay
	@rm -rf build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis data/demo data/prepared
	@find . -path ./$(VENV) -prune -o -type d -name __pycache__ -print0 | xargs -0 rm -rf

RECENT := import sys; sys.exit(sys.version_info < (3, 11))
CPU_BUILDS := https://download.pytorch.org/whl/cpu

# Three places have a CPU build of torch: pip's own configuration (a local wheel), the index of the
# PyTorch project, and on a Mac PyPI. With an NVIDIA GPU the build of PyPI is right, which has CUDA.
$(STAMP): requirements.lock pyproject.toml
	@set -e; \
	if ! $(BIN)/python -c '$(RECENT)' 2>/dev/null; then \
		for candidate in $(or $(PYTHON),python3 python3.13 python3.12 python3.11); do \
			if $$candidate -c '$(RECENT)' 2>/dev/null; then found=$$candidate; break; fi; done; \
		if [ -z "$$found" ]; then \
			echo "make: nmt needs Python 3.11 or newer and found none; name it: make setup PYTHON=/path/to/python3" >&2; \
			exit 1; fi; \
		echo "Creating $(VENV) with $$($$found --version)"; \
		$$found -m venv --clear $(VENV); \
	fi; \
	torch="torch==$(TORCH)"; build=; index=; \
	if nvidia-smi >/dev/null 2>&1; then build=" with CUDA"; torch="$$torch,!=$(TORCH)+cpu"; \
	elif [ "$$(uname)" = Linux ]; then \
		if $(PIP) --no-index --no-deps --dry-run "$$torch" >/dev/null 2>&1; then build=", a local build for CPUs"; \
		elif $(BIN)/python -c 'import urllib.request as r; r.urlopen("$(CPU_BUILDS)/torch/", timeout=3)' 2>/dev/null; \
		then build=", the build for CPUs"; index="--extra-index-url $(CPU_BUILDS)"; \
		else build=" with CUDA, because no build for CPUs is within reach"; fi; \
	fi; \
	echo "Installing torch $(TORCH)$$build"; \
	$(PIP) $$index "$$torch"; \
	echo "Installing the packages of requirements.lock"; \
	$(PIP) -r requirements.lock; \
	echo "Installing nmt"; \
	$(PIP) --no-deps --no-build-isolation --editable .; \
	touch $(STAMP); \
	echo "Ready: $(BIN)/nmt"
