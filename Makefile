# make demo: install into .venv, train on the sample corpus, score, read new texts, draw a page.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# A second environment, with transformers 4 and spacy-transformers.
VENV4 ?= .venv-4
BIN4 := $(VENV4)/bin
STAMP4 := $(VENV4)/.installed
COMPAT := build/compat
# Tests run in as many processes; a file stays in one of them, with what its tests share.
JOBS ?= 2
PARALLEL := -n $(JOBS) --dist loadfile
BENCH ?= benchmarks/speed.py
FUZZ ?= --minutes 2

.PHONY: help install install-4 demo demo-avx2 readme test test-slow test-all test-4 compat audit fuzz lint bench docs clean
.DELETE_ON_ERROR:

help:
	@echo "make install   create $(VENV) with the package and its tools (PYTHON=python3.12 for another Python)"
	@echo "make demo      train, score and show the components on the sample corpus (minutes)"
	@echo "make demo-avx2 the same as on an older processor, to take the time"
	@echo "make readme    run the commands and the Python of README.md in a fresh clone and environment"
	@echo "make test      run the tests in two processes (JOBS=1 for one)"
	@echo "make test-slow run the tests that make test leaves out"
	@echo "make test-all  run both"
	@echo "make test-4    run the tests that need spacy-transformers, in $(VENV4)"
	@echo "make compat    save pipelines with transformers 4 and load them with 5, and the reverse"
	@echo "make fuzz      run random tests for two minutes (FUZZ='--minutes 30 --seed 7')"
	@echo "make lint      run ruff, the contracts of imports, and mypy"
	@echo "make audit     look for known vulnerabilities in what $(VENV) has installed"
	@echo "make bench     measure speed (BENCH='benchmarks/conll04.py --help' for another one)"
	@echo "make docs      build the documentation into site/"
	@echo "make clean     remove $(VENV), $(VENV4) and all that was built or trained"

install: $(STAMP)

# torch first and alone: a range like "torch>=2.1" beside other packages may be solved with another
# build of it than the one that was asked for.
$(STAMP): setup.cfg setup.py pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --no-input "$$(grep '^torch==' constraints.txt)"
	$(BIN)/python -m pip install --no-input -c constraints.txt -e ".[dev]"
	touch $@

install-4: $(STAMP4)

$(STAMP4): setup.cfg setup.py pyproject.toml constraints-4.txt
	$(PYTHON) -m venv $(VENV4)
	$(BIN4)/python -m pip install --no-input "$$(grep '^torch==' constraints-4.txt)"
	$(BIN4)/python -m pip install --no-input -c constraints-4.txt -e ".[test,spacy-transformers]"
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

test-4: $(STAMP4)
	$(BIN4)/python -m pytest $(PARALLEL) -m spacy_transformers

compat: $(STAMP) $(STAMP4)
	rm -rf $(COMPAT)
	$(BIN4)/python -m tests.compat save $(COMPAT)/4
	$(BIN)/python -m tests.compat save $(COMPAT)/5
	$(BIN)/python -m tests.compat check $(COMPAT)/4
	$(BIN4)/python -m tests.compat check $(COMPAT)/5

# Needs the network: pip-audit asks pypi.org about each version.
audit: $(STAMP)
	$(PYTHON) -m venv build/audit
	build/audit/bin/python -m pip install --no-input pip-audit
	$(BIN)/python -m pip freeze --exclude-editable | sed 's/+.*//' > build/audit/installed.txt
	build/audit/bin/pip-audit --strict --no-deps --disable-pip -r build/audit/installed.txt

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
	rm -rf $(VENV) $(VENV4) build dist site corpus training metrics packages project.lock
	rm -rf *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
