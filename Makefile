# make demo: install into .venv, train on the sample corpus, score, show relations of new sentences.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
BENCH ?= benchmarks/speed.py

.PHONY: help install demo test lint bench docs clean
.DELETE_ON_ERROR:

help:
	@echo "make install   create $(VENV) with the package and its tools (PYTHON=python3.12 for another Python)"
	@echo "make demo      train, score and show a model on the sample corpus (minutes)"
	@echo "make test      run the tests"
	@echo "make lint      run ruff and mypy"
	@echo "make bench     measure speed (BENCH='benchmarks/conll04.py --help' for another one)"
	@echo "make docs      build the documentation into site/"
	@echo "make clean     remove $(VENV) and all that was built or trained"

install: $(STAMP)

# torch first and alone: a range like "torch>=2.1" beside other packages may be solved with another
# build of it than the one that was asked for.
$(STAMP): setup.cfg setup.py pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --no-input "$$(grep '^torch==' constraints.txt)"
	$(BIN)/python -m pip install --no-input -c constraints.txt -e ".[dev]"
	touch $@

# The project's commands call "python": the one of the environment.
demo: $(STAMP)
	PATH="$(abspath $(BIN)):$$PATH" python -m spacy project run demo

test: $(STAMP)
	$(BIN)/python -m pytest

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/mypy

# benchmarks/conll04.py needs the data of "spacy project assets" and hours: make bench BENCH=...
bench: $(STAMP)
	$(BIN)/python $(BENCH)

docs: $(STAMP)
	$(BIN)/mkdocs build --strict

clean:
	rm -rf $(VENV) build dist site corpus training metrics packages project.lock
	rm -rf *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
