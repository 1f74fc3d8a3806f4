# make demo: install into .venv, train on the sample corpus, score, read new texts, draw a page.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# A second environment, with transformers 5.
VENV5 ?= .venv-5
BIN5 := $(VENV5)/bin
STAMP5 := $(VENV5)/.installed
# The tests that gain from a second run with another version of transformers.
CORE := tests/contract tests/tok2vec tests/encoders tests/encoding tests/extractive_qa tests/relation_classifier \
	tests/span_relation tests/compat tests/saved tests/training/test_corpus.py \
	tests/training/test_losses.py tests/training/test_optimizer.py tests/test_annotations.py \
	tests/test_answers.py tests/test_registry.py tests/test_scoring.py
COMPAT := build/compat
# Tests run in as many processes; a file stays in one of them, with what its tests share.
JOBS ?= 2
PARALLEL := -n $(JOBS) --dist loadfile
BENCH ?= benchmarks/speed.py
FUZZ ?= --minutes 2

.PHONY: help install install-5 demo demo-avx2 readme test test-slow test-all test-5 compat fuzz lint bench docs clean
.DELETE_ON_ERROR:

help:
	@echo "make install   create $(VENV) with the package and its tools (PYTHON=python3.12 for another Python)"
	@echo "make demo      train, score and show the components on the sample corpus (minutes)"
	@echo "make demo-avx2 the same as on an older processor, to take the time"
	@echo "make readme    run the commands and the Python of README.md in a fresh clone and environment"
	@echo "make test      run the tests in two processes (JOBS=1 for one)"
	@echo "make test-slow run the tests that make test leaves out"
	@echo "make test-all  run both"
	@echo "make test-5    run the tests of the core with transformers 5, in $(VENV5)"
	@echo "make compat    save pipelines with transformers 4 and load them with 5, and the reverse"
	@echo "make fuzz      run random tests for two minutes (FUZZ='--minutes 30 --seed 7')"
	@echo "make lint      run ruff, the contracts of imports, and mypy"
	@echo "make bench     measure speed (BENCH='benchmarks/conll04.py --help' for another one)"
	@echo "make docs      build the documentation into site/"
	@echo "make clean     remove $(VENV), $(VENV5) and all that was built or trained"

install: $(STAMP)

# torch first and alone: a range like "torch>=2.1" beside other packages may be solved with another
# build of it than the one that was asked for.
$(STAMP): setup.cfg setup.py pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --no-input "$$(grep '^torch==' constraints.txt)"
	$(BIN)/python -m pip install --no-input -c constraints.txt -e ".[dev]"
	touch $@

install-5: $(STAMP5)

$(STAMP5): setup.cfg setup.py pyproject.toml constraints-5.txt
	$(PYTHON) -m venv $(VENV5)
	$(BIN5)/python -m pip install --no-input "$$(grep '^torch==' constraints-5.txt)"
	$(BIN5)/python -m pip install --no-input -c constraints-5.txt -e ".[test]"
	touch $@

demo: $(STAMP)
	$(BIN)/python scripts/demo.py

# As on two cores of a processor that has AVX2 and neither AVX-512 nor bfloat16.
demo-avx2: $(STAMP)
	ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX2 MKL_ENABLE_INSTRUCTIONS=AVX2 OMP_NUM_THREADS=2 \
		$(BIN)/python scripts/demo.py --precision float32

# With what "make demo" has trained here, if it has.
readme:
	$(PYTHON) scripts/readme.py --trained .

test: $(STAMP)
	$(BIN)/python -m pytest $(PARALLEL) -m "not slow"

test-slow: $(STAMP)
	$(BIN)/python -m pytest -m slow

test-all: test test-slow

test-5: $(STAMP5)
	$(BIN5)/python -m pytest $(PARALLEL) $(CORE)

compat: $(STAMP) $(STAMP5)
	rm -rf $(COMPAT)
	$(BIN)/python -m tests.compat save $(COMPAT)/4
	$(BIN5)/python -m tests.compat save $(COMPAT)/5
	$(BIN5)/python -m tests.compat check $(COMPAT)/4
	$(BIN)/python -m tests.compat check $(COMPAT)/5

fuzz: $(STAMP)
	$(BIN)/python -m tests.fuzz $(FUZZ)

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/mypy

# benchmarks/conll04.py needs the data of "spacy project assets" and hours: make bench BENCH=...
bench: $(STAMP)
	$(BIN)/python $(BENCH)

docs: $(STAMP)
	$(BIN)/mkdocs build --strict

clean:
	rm -rf $(VENV) $(VENV5) build dist site corpus training metrics packages project.lock
	rm -rf *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
