# make up   make down   make serve   make test   make bench   make archive VERSION=1.1     Settings: deploy/settings.py, e.g. make serve SERVE_INFERENCE_PORT=9000
PYTHON  ?= python3.11
BUNDLE  ?= models/classroom
BIN     := .venv/bin

.PHONY: help install serve up down archive test check bench clean

help:
	@echo 'make serve                  the shipped model on http://127.0.0.1:8080, until Ctrl-C'
	@echo 'make up                     the same in the background, restarted whatever dies'
	@echo 'make down                   stop it'
	@echo 'make test                   format, lint, types, every test'
	@echo 'make check                  format, lint and types alone'
	@echo 'make bench                  this project beside its peers, each in an environment of its own (wants wrk)'
	@echo 'make archive VERSION=1.1    BUNDLE (default: models/classroom) -> model_store/NAME-VERSION.mar'
	@echo 'make clean                  remove .venv, var, model_store/*.mar (runs are kept)'

install: .venv/.serving

.venv/.serving: requirements.txt constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --disable-pip-version-check -r requirements.txt
	@touch $@

.venv/.testing: .venv/.serving requirements-dev.txt
	$(BIN)/python -m pip install --disable-pip-version-check -r requirements-dev.txt
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

check: .venv/.testing
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

test: check
	$(BIN)/python -m pytest -n 2 --dist loadfile

bench: .venv/.serving
	@$(BIN)/python -m benchmarks.peers.install
	@$(BIN)/python -m benchmarks.compare $(BENCH)

clean: down
	rm -rf .venv .venv-bench var model_store/*.mar model_store/*.json
