# The two commands of a newcomer are `make run` and `make test`; `make help` lists the rest.
PYTHON ?= python3.11
# Processes that the tests are shared out to; 0 runs them in one, as plain `pytest` does.
WORKERS ?= 2
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
INSTALLED_DEV := $(VENV)/.installed-dev
AUDIT := $(VENV)/audit

.DEFAULT_GOAL := help
.PHONY: help install run demo test test-slow check audit format samples docs clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

$(BIN)/python:
	@command -v $(PYTHON) >/dev/null || { echo "$(PYTHON) is not on the PATH; install Python 3.11 or newer, or name yours: make run PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv $(VENV)

# constraints.txt pins every package, so that two machines run the same versions.
$(INSTALLED): $(BIN)/python pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e .
	@touch $@

$(INSTALLED_DEV): $(INSTALLED)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

install: $(INSTALLED) ## create .venv and install the pinned dependencies

run: install ## start the service on http://127.0.0.1:8000 with the bundled model
	$(BIN)/avgzsl serve

demo: install ## try every endpoint on the sample clips and print what came back
	$(BIN)/python -m service.demo

test: $(INSTALLED_DEV) ## run the default test suite
	$(BIN)/python -m pytest -n $(WORKERS) --no-loadscope-reorder

test-slow: $(INSTALLED_DEV) ## run everything, the slow tests included
	$(BIN)/python -m pytest -m "slow or not slow"

check: $(INSTALLED_DEV) ## lint, format and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# In an environment of its own, so that its packages do not meet those that it looks up. `--strict`:
# what cannot be looked up, as without the network, must not count as harmless.
audit: $(BIN)/python ## look the pinned packages up among known vulnerabilities; needs the network
	test -x $(AUDIT)/bin/pip-audit || { $(BIN)/python -m venv $(AUDIT) && $(AUDIT)/bin/pip install --quiet --disable-pip-version-check pip-audit; }
	$(AUDIT)/bin/pip-audit --strict --no-deps --disable-pip --progress-spinner off --requirement constraints.txt

format: $(INSTALLED_DEV) ## rewrite the code in the project's format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

samples: $(INSTALLED_DEV) ## make the sample clips again
	$(BIN)/python -m samples.make_samples

docs: $(INSTALLED_DEV) ## build the documentation as a site, in build/site
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
	@echo "open build/site/index.html, or: $(BIN)/python -m http.server --directory build/site 8001"

INSTALLED_BENCH := $(VENV)/.installed-bench

$(INSTALLED_BENCH): $(INSTALLED_DEV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev,bench]'
	@touch $@

.PHONY: bench
bench: $(INSTALLED_BENCH) ## run the benchmarks (hours) and write benchmarks/REPORT.md; DATA=folder for accuracy
	$(BIN)/python benchmarks/report.py $(if $(DATA),--data $(DATA))

.PHONY: page
page: ## build the page at / (needs node 20 and npm; the result is committed)
	cd service/page && npm ci --no-audit --no-fund && npm run check && npm run build

clean: ## remove the environment and what tools left behind
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis build dist *.egg-info
