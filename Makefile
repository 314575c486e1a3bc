# make serve   make up   make down   make test   make archive VERSION=1.1   Settings: make serve SERVE_INFERENCE_PORT=9000 (deploy/settings.py)
PYTHON  ?= python3.11
BUNDLE  ?= models/classroom
BIN     := .venv/bin
PIP     := $(BIN)/python -m pip install --disable-pip-version-check

.PHONY: help install serve up down archive retrain nightly test test-fast check docs bench clean

help:
	@echo 'make serve                  serve the shipped model on http://127.0.0.1:8080 until Ctrl-C'
	@echo 'make up                     serve it in the background; every process that dies is restarted'
	@echo 'make down                   stop it'
	@echo 'make install                also install what training needs; adds the command .venv/bin/photoloop'
	@echo 'make archive VERSION=1.1    pack BUNDLE (default: models/classroom) as model_store/NAME-VERSION.mar'
	@echo 'make retrain PHOTOS=FOLDER  from photos to a packed version; RETRAIN="--recipe NAME ..." for options'
	@echo 'make nightly NIGHTLY="..."   one night of the feedback loop; options: python -m feedback nightly --help'
	@echo 'make check                  formatting, lint and types'
	@echo 'make test-fast              the tests that need no server, no training and no seconds of computing'
	@echo 'make test                   make check, and every test'
	@echo 'make docs                   build the documentation as a site in site/; broken links fail'
	@echo 'make bench                  compare with other serving systems, each in its own environment (needs wrk)'
	@echo 'make clean                  remove .venv, .venv-bench, var and the archives in model_store; runs are kept'

install: .venv/.training

.venv/.serving: requirements/serving.txt requirements/feedback.txt constraints.txt
	$(PYTHON) -m venv .venv
	$(PIP) -r requirements/serving.txt
	$(PIP) --no-deps -e .
	@touch $@

.venv/.training: .venv/.serving requirements.txt requirements/training.txt requirements/reports.txt
	$(PIP) -r requirements.txt
	@touch $@

.venv/.testing: .venv/.training requirements/dev.txt
	$(PIP) -r requirements/dev.txt
	@touch $@

serve: .venv/.serving
	@exec $(BIN)/python -m deploy serve --bundle $(BUNDLE)

up: .venv/.serving
	@$(BIN)/python -m deploy up --bundle $(BUNDLE)

down:
	@test ! -x $(BIN)/python || $(BIN)/python -m deploy down

archive: .venv/.serving
	@test -n "$(VERSION)" || { echo 'give a version: make archive VERSION=1.1' >&2; exit 1; }
	@scripts/archive.sh $(BUNDLE) $(VERSION)

retrain: .venv/.training
	@test -n "$(PHOTOS)" || { echo 'give a folder of photos: make retrain PHOTOS=~/scraped' >&2; exit 1; }
	@$(BIN)/python -m retrain "$(patsubst ~/%,$(HOME)/%,$(PHOTOS))" $(RETRAIN)

nightly: .venv/.training
	@test -n "$(NIGHTLY)" || { echo 'give its options: make nightly NIGHTLY="--server http://127.0.0.1:5000 ..."' >&2; exit 1; }
	@$(BIN)/python -m feedback nightly $(NIGHTLY)

check: .venv/.testing
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

# Five processes on two cores, because tests that start a server wait: with four the cores are idle for a sixth of the time.
test: .venv/.testing
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	@$(BIN)/mypy & types=$$!; $(BIN)/python -m pytest -n 5; tests=$$?; \
	wait $$types || { echo 'mypy failed: its errors are above the first tests' >&2; exit 1; }; exit $$tests

test-fast: .venv/.testing
	$(BIN)/python -m pytest -n 3 -m fast tests/unit

.venv/.docs: .venv/.serving requirements/docs.txt
	$(PIP) -r requirements/docs.txt
	@touch $@

docs: .venv/.docs
	$(BIN)/zensical build --strict --clean

bench: .venv/.training
	@$(BIN)/python -m benchmarks.peers.install
	@$(BIN)/python -m benchmarks.compare $(BENCH)

clean: down
	rm -rf .venv .venv-bench site .cache var model_store/*.mar model_store/*.json
