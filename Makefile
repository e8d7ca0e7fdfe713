# Every target sets up what it needs (a .venv beside this file) on a bare Debian with Python 3.11; a second call is quick.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready
BESIDE := $(BIN)/python -m tests.servers

.DEFAULT_GOAL := help
.PHONY: help setup demo test chaos coverage campaign celery lint bench pictures clean

help: ## list the targets
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 10

setup: $(READY)

$(READY): pyproject.toml
	@sh scripts/venv.sh $(PYTHON) $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade 'pip>=25.1'
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable . --group dev
	@touch $@

demo: $(READY) ## run the workspace: a small chat app that the seeds' jobs clean
	@$(BIN)/nightcrew demo $(ARGS)

test: $(READY) ## run every test against every database that can be found or started
	@$(BESIDE) $(BIN)/python -m pytest --numprocesses 2 --dist loadgroup $(ARGS)

coverage: $(READY) ## the same, and tell which lines and branches no test went through
	@$(BESIDE) $(BIN)/python -m pytest --numprocesses 2 --dist loadgroup --cov --cov-report=term $(ARGS)

campaign: $(READY) ## play the models of tests/model at length (about twenty minutes); ARGS="--seed 7" plays one seed again
	@$(BESIDE) $(BIN)/python -m pytest tests/model --campaign --numprocesses 2 --dist worksteal $(ARGS)

chaos: $(READY) ## kill, freeze and restart for minutes on end, and thousands of streams; ARGS="--seed 7 -k mysql" plays one
	@$(BIN)/python -m pytest tests/model/test_riots.py tests/model/test_streams_crowds.py --campaign $(ARGS)

celery: $(READY) ## four of Celery's workers sweep two million rows over RabbitMQ, and two are killed meanwhile
	@$(BIN)/python -m tests.bench.fleet $(ARGS)

lint: $(READY) ## ruff, mypy --strict, and the import law
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

pictures: $(READY) ## take the pictures of the desk in docs/pictures anew, in Chromium
	@$(BIN)/python -m tests.pictures

bench: $(READY) ## ratios, measured side by side in one run
	@$(BIN)/python -m tests.bench $(ARGS)

clean: ## remove the environment and every cache
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis .coverage .coverage.* dist htmlcov
