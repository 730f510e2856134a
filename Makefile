# Needs Python 3.11 to 3.13 with venv, and make. Everything else is installed into .venv; frames, runs and pages go
# to build/.

# The first Python here that is new enough; choose another one with: make course PYTHON=/path/to/python3.12
NEW_ENOUGH = import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
            $$p -c '$(NEW_ENOUGH)' 2>/dev/null && echo $$p && break; done)
PY := .venv/bin/python
PIP := $(PY) -m pip install --quiet --quiet --disable-pip-version-check --retries 10 -c constraints.txt

# Where frames and training runs are kept: course, test and lab share them, so nothing is trained twice.
export OCCLAB_HOME ?= $(CURDIR)/build/home
# This environment's kernel and commands come before those of the home folder.
export JUPYTER_PREFER_ENV_PATH := 1
export PATH := $(CURDIR)/.venv/bin:$(PATH)

.DEFAULT_GOAL := help
.PHONY: help course test lab notebooks lint bench record clean

help: ## show this list
	@grep -E '^[a-z]+:.*##' Makefile | sed -E 's/:.*## /|/' | awk -F'|' '{printf "  make %-10s %s\n", $$1, $$2}'

course: .venv/ready-course ## set up, run every notebook, write the pages to build/course/
	$(PY) -m occlab course

# Notebooks are tested at profile tiny, where a training takes seconds; OCCLAB_PROFILE=small make test takes the readers' one.
test: export OCCLAB_PROFILE := $(or $(OCCLAB_PROFILE),tiny)
test: TWO := -n 2 --dist loadfile --durations=10
# Two at a time, a thread each: more threads than cores wait for each other.
test: export OMP_NUM_THREADS := 1
test: .venv/ready-test ## set up, then lint, unit tests, notebooks, a real browser
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m nbstripout --verify --keep-output --keep-count --keep-id notebooks/*.ipynb
	$(PY) -m pytest $(TWO) --doctest-modules --ignore tests/browser tests occlab
	$(PY) -m pytest $(TWO) --nbval-lax --nbval-current-env --nbval-cell-timeout=900 notebooks
	$(PY) -m pytest --durations=10 tests/browser

lab: .venv/ready-course ## open JupyterLab on the first notebook
	$(PY) -m jupyterlab notebooks/00_start_here.ipynb

notebooks: .venv/ready-test ## execute the notebooks in place, as they are committed (needs Chromium)
	OCCLAB_PROFILE=small $(PY) -m occlab course --refresh
	$(PY) scripts/readme_pictures.py

lint: .venv/ready-test ## ruff over modules and notebooks
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .

bench: .venv/ready-bench ## measure side by side with peers
	$(PY) benchmarks/run.py

record: .venv/ready-course ## record full-scale runs on a GPU into data_samples/
	$(PY) benchmarks/record.py

clean: ## remove build/ (pages, frames, training runs), caches, and the set-up's stamps
	rm -rf build .pytest_cache .ruff_cache .hypothesis .venv/ready-*

# --- set-up: again only when the pins change ----------------------------------------------------------------------

EXTRAS_course := course
EXTRAS_test := course,test,sweep
EXTRAS_bench := course,test,sweep,bench

.venv/ready-%: pyproject.toml constraints.txt scripts/system_packages.py scripts/jupyterlab.json | .venv/bin/pip
	@$(PY) scripts/system_packages.py $*
	@echo "installing .[$(EXTRAS_$*)] into .venv, about 2 minutes the first time"
	@$(PIP) -e '.[$(EXTRAS_$*)]'
	@test $* = course || $(PIP) --no-deps nuscenes-devkit  # asks for numpy < 2 and works with 2; opens what occlab exports
	@touch $@

.venv/bin/pip:
	@test -n "$(PYTHON)" || { echo "no Python 3.11 to 3.13 found; name one: make course PYTHON=/path/to/python3.12"; exit 1; }
	$(PYTHON) -m venv .venv
