.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help demo test screenshots bench chaos mutants lint format types migrate revision lock clean

PY := .venv/bin/python
UV := .cache/uv/bin/uv
COMPILE = $(UV) pip compile --universal --python-version 3.11 --generate-hashes --quiet \
	--no-emit-index-url --no-emit-find-links --custom-compile-command "make lock"

help: ## list these targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-8s %s\n", $$1, $$2 }' Makefile

demo: ## run everything here with a simulated Salesforce org (ARGS=--once, ARGS=--provider, PORT=, ORG_PORT=)
	@sh devtools/venv.sh requirements-demo.lock
	@$(PY) -m devtools.system redis
	@$(PY) -m devtools.npm_files --optional
	@$(PY) -m devtools.demo $(ARGS)

test: ## run all tests with the services they need, two at a time (ARGS="-n 0 -k name"; a daily round: ARGS="-m 'not slow'")
	@sh devtools/venv.sh requirements-dev.lock
	@$(PY) -m devtools.system redis postgres chromium npm buildah debootstrap promtool systemd nginx
	@$(PY) -m devtools.npm_files
	@PYTHONDONTWRITEBYTECODE= $(PY) -m pytest -n 2 --dist worksteal $(ARGS)

chaos: ## break everything at random and see that nothing is lost (ARGS="--seed 1 --faults 200")
	@sh devtools/venv.sh requirements-dev.lock
	@$(PY) -m devtools.system redis postgres
	@$(PY) -m devtools.chaos $(ARGS)

mutants: ## break the core in small ways and see whether its tests notice (ARGS="--sample 10 --seed 1 asapp/contacts/status.py")
	@sh devtools/venv.sh requirements-dev.lock
	@$(PY) -m devtools.system redis
	@PYTHONDONTWRITEBYTECODE= $(PY) -m devtools.mutants $(ARGS)

screenshots: ## take the pictures of README and guides (ARGS=--every: of every page, into .cache/photographs)
	@sh devtools/venv.sh requirements-dev.lock
	@$(PY) -m devtools.system redis chromium npm
	@$(PY) -m devtools.npm_files
	@$(PY) -m devtools.screenshots $(ARGS)

bench: ## measure against floors, side by side (ARGS="full --contacts 20000")
	@sh devtools/venv.sh requirements-dev.lock
	@$(PY) -m devtools.system redis postgres
	@$(PY) -m benchmarks $(ARGS)

lint: ## check style, layout and words of the code
	@sh devtools/venv.sh requirements-dev.lock
	@$(PY) -m ruff check .
	@$(PY) -m ruff format --check .
	@.venv/bin/codespell
	@$(PY) -m devtools.words
	@.venv/bin/lint-imports

format: ## lay the code out as `make lint` wants it
	@sh devtools/venv.sh requirements-dev.lock
	@$(PY) -m ruff check --fix --quiet .
	@$(PY) -m ruff format --quiet .

types: ## check the types
	@sh devtools/venv.sh requirements-dev.lock
	@$(PY) -m mypy

migrate: ## bring the database at DATABASE_URL up to date
	@sh devtools/venv.sh requirements.lock
	@$(PY) -m flask --app wsgi db upgrade

revision: ## write a migration for what the models say and the tables don't (ARGS="'What it does'")
	@sh devtools/venv.sh requirements-dev.lock
	@$(PY) -m devtools.revision $(ARGS)

lock: ## renew the lock files from pyproject.toml (ARGS=--upgrade for newer releases)
	@test -x $(UV) || { python3 -m venv .cache/uv && .cache/uv/bin/python -m pip install --quiet uv; }
	@$(COMPILE) pyproject.toml --group dev $(ARGS) -o requirements-dev.lock
	@$(COMPILE) pyproject.toml --group demo -c requirements-dev.lock $(ARGS) -o requirements-demo.lock
	@$(COMPILE) pyproject.toml -c requirements-dev.lock $(ARGS) -o requirements.lock
	@$(COMPILE) --group pyproject.toml:build -c requirements-dev.lock $(ARGS) -o requirements-build.lock

clean: ## remove what these targets made
	rm -rf .venv .cache .mypy_cache .pytest_cache .ruff_cache .hypothesis instance static/vendor
