# make demo    train on two things and write two reports
# make test    lint, types, import contracts and tests
#
# Each makes .venv and installs requirements/pinned.txt the first time. Only python3 (3.11 or
# newer, with venv) and make are needed.
PYTHON      ?= python3
TORCH_INDEX ?= https://download.pytorch.org/whl/cpu
WORKERS     ?= 2

SHELL   := /bin/bash
BIN     := .venv/bin
STAMP   := .venv/installed
SITE    := .venv/site-installed
THREADS := OMP_NUM_THREADS=1
TORCH   := $(shell grep '^torch==' requirements/pinned.txt)

.PHONY: demo test lint slow exports course docs site install clean
.DEFAULT_GOAL := help

.PHONY: help
help:
	@sed -n '1,5s/^# \{0,1\}//p' Makefile
	@echo "make lint    the checks without the tests       make slow   the slow tests"
	@echo "make docs    the picture of the README         make exports   rewrite the export lists"
	@echo "make site    the site, into docs/_build/html"
	@echo "make course  the notebooks of course/ from their text"

install: $(STAMP)

# torch first: from a local folder if pip is set up with one, else PyTorch's CPU index, else PyPI.
$(STAMP): requirements/pinned.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "basin needs Python 3.11 or newer, got $$($(PYTHON) --version); set PYTHON=python3.12"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv || \
	  { echo "python3 has no venv; on Debian: apt-get install python3-venv"; rm -rf .venv; exit 1; }
	@echo "installing into .venv: once, a few minutes ..."
	@$(BIN)/python -m pip install --quiet --no-index --no-deps $(TORCH) 2>/dev/null || \
	 $(BIN)/python -m pip install --quiet --no-deps --index-url $(TORCH_INDEX) $(TORCH) || \
	 $(BIN)/python -m pip install --quiet $(TORCH)
	@$(BIN)/python -m pip install --quiet -r requirements/pinned.txt
	@PYTHONWARNINGS=ignore $(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

$(SITE): $(STAMP) requirements/site.txt
	@$(BIN)/python -m pip install --quiet -r requirements/site.txt
	@touch $@

demo: $(STAMP)
	@$(BIN)/python tools/demo.py

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python tools/exports.py --check
	$(BIN)/python tools/notebooks.py --check
	$(BIN)/lint-imports
	$(BIN)/pyright

test: lint $(SITE)
	$(THREADS) $(BIN)/python -m pytest -n $(WORKERS)

slow: $(STAMP)
	$(THREADS) $(BIN)/python -m pytest -n $(WORKERS) -m slow

exports: $(STAMP)
	$(BIN)/python tools/exports.py

course: $(STAMP)
	$(BIN)/python tools/notebooks.py

docs: $(STAMP)
	$(BIN)/python tools/pictures.py

site: $(SITE)
	$(BIN)/sphinx-build -W --keep-going -q -b html docs docs/_build/html
	@echo docs/_build/html/index.html

clean:
	rm -rf .venv docs/_build docs/reference build dist *.egg-info .pytest_cache .ruff_cache .hypothesis
