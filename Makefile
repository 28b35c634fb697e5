# Each target makes the Python environment first, which takes no time when it is there.
LGTM := .venv/bin/lgtm
.DEFAULT_GOAL := help
.PHONY: help up down logs status doctor render apply plan verify demo test bench chaos lint destroy setup setup-dev

help: ## Show this list
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  make %-9s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

up: setup ## Start everything, and wait until it is ready (again: changes nothing)
	@$(LGTM) up

down: setup ## Stop everything; the data stays
	@$(LGTM) down

logs: setup ## Follow the servers' logs (one server: make logs S=loki)
	@$(LGTM) logs --follow $(S)

status: setup ## How each server is, and the memory that it takes
	@$(LGTM) status

doctor: setup ## Find out what is wrong with this machine or the stack
	@$(LGTM) doctor

render: setup ## Write rules, dashboards, routes and probes from slos.yaml
	@$(LGTM) render

apply: setup ## Bring slos.yaml into force, or say why not
	@$(LGTM) apply

plan: setup ## What an edit of slos.yaml means, before it is applied
	@$(LGTM) plan || test $$? = 2  # 2: it changes something

verify: setup ## Is what runs what slos.yaml says, and does it work?
	@$(LGTM) verify

demo: setup ## Start the demo service, whose failures can be switched on
	@$(LGTM) demo start

test: lint ## Check style and types, then run every test, on real servers too (some: make test T=tests/unit)
	@$(LGTM) pull
	@.venv/bin/pytest -m "" -n 3 --dist loadfile --no-loadscope-reorder $(or $(T),tests/stack tests/rules tests/unit)

bench: setup-dev ## Measure the rules beside Sloth's (45 minutes), and write docs/benchmarks.md
	@.venv/bin/python -m bench --write

chaos: setup-dev ## Kill, pause, restart and fill each server under load, and count what is lost (an hour): docs/chaos.md
	@.venv/bin/python -m bench.chaos --write

lint: setup-dev ## Check style and types
	@.venv/bin/ruff check .
	@.venv/bin/ruff format --check .
	@.venv/bin/mypy

reference: setup ## Write docs/reference.md and the editors' schema from the models
	@$(LGTM) reference --output docs/reference.md
	@$(LGTM) schema --output docs/slos.schema.json

destroy: setup ## Delete the servers and ALL their data (asks first)
	@$(LGTM) destroy

setup:
	@bin/setup

setup-dev:
	@bin/setup dev
