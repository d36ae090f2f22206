# make demo      the main job, as a story that needs no server      make test     everything that must hold
# make bench     our speed beside others', as ratios                make faces    writes consul_access/_sync again
#                (BENCH="--quick", "--only lookup", "--compare OLD.json": what `python -m benchmarks --help` tells of)
# make compat    the etcd3 package beside every protobuf, 3 to 7
# make chart     the values in deploy/helm rendered with the chart in the folder CONSUL_CHART
# make faults    every fault by its name, ours and others' (ONLY=)  make fuzz     bytes that no decoder was made for
# make faults-beside    our tests of faults with Consul 1.10, built from its source (needs Go)
# make versions  both ends of what pyproject.toml allows, beside every Python it names (PYTHONS=3.12)
# make audit     the list of parts of the wheel (SBOM) in the folder dist, and their known flaws (SERVICE=osv)
# make soak      50,000 random operations on the fakes and real servers, and random faults for an hour (SECONDS=, SEED=)
# make screenshots   the pictures of docs/observability.md, from a run of two minutes beside a real Prometheus
#
# All of them set themselves up: a virtual environment in .venv, and for tests a real Consul in the user's cache folder.

PYTHON ?= python3
BIN := .venv/bin
PROTOBUFS := 3.20.3 4.25.8 5.29.5 6.33.6 7.36.2
# Compiled once, modules serve all the processes that tests start.
unexport PYTHONDONTWRITEBYTECODE
# Six at a time on two cores, tests of real servers may starve: what failed is run once more, alone, and has to pass.
SOURCES := consul_access tests tools docs examples benchmarks noxfile.py

.PHONY: demo test lint types faces check-faces pytest suite pages docs bench chart faults faults-beside fuzz compat versions audit soak screenshots clean

demo: .venv/demo
	$(BIN)/python -m consul_access.testing.demo

# The suite waits for real servers most of the time; beside it there is room for what computes.
test: .venv/dev
	$(MAKE) -j2 suite check-faces lint types pages docs

check-faces: .venv/dev
	$(BIN)/python tools/faces.py --check

lint: .venv/dev
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/lint-imports
	$(BIN)/codespell -D - -D tools/words.txt $(SOURCES) deploy README.md CHANGELOG.md Makefile
	$(BIN)/python tools/links.py

types: .venv/dev
	$(BIN)/mypy
	$(BIN)/pyright

pytest: suite pages

suite: .venv/dev
	$(BIN)/python -m pytest -q -n 6 --dist worksteal tests || \
		$(BIN)/python -m pytest -q --last-failed --last-failed-no-failures none tests

pages: .venv/dev
	$(BIN)/python -m pytest -q -o cache_dir=.venv/pytest-pages docs README.md

chart: .venv/dev
	@test -f "$(CONSUL_CHART)/values.yaml" || { echo "make chart CONSUL_CHART=DIR, with the folder of the chart hashicorp/consul"; exit 2; }
	HELM_BIN="$$($(BIN)/python tools/helm.py)" CONSUL_CHART="$(abspath $(CONSUL_CHART))" $(BIN)/python -m pytest -q tests/deploy/test_chart.py

soak: .venv/dev
	CONSUL_ACCESS_SOAK=50000 CONSUL_ACCESS_SOAK_SEED=$(SEED) \
		$(BIN)/python -m pytest -q tests/conformance/test_differential.py tests/conformance/test_etcd_differential.py
	CONSUL_ACCESS_SOAK_SECONDS=$(or $(SECONDS),3600) CONSUL_ACCESS_SOAK_SEED=$(SEED) \
		$(BIN)/python -m pytest -q tests/faults/test_soak.py -k "hour or bounds or purpose"
	CONSUL_ACCESS_SOAK_SECONDS=60 CONSUL_ACCESS_SOAK_SEED=$(SEED) \
		$(BIN)/python -m pytest -q tests/faults/test_history.py -k minute

faults: .venv/bench
	$(BIN)/python -m benchmarks.laboratory --rounds 2 --write $(ONLY)

# With a Consul that is built from its source, and so needs Go.
faults-beside: .venv/bench
	CONSUL_BIN="$$($(BIN)/python -m tools.consul_source)" $(BIN)/python -m benchmarks.laboratory --rounds 2 --beside $(ONLY)

fuzz: .venv/fuzz/made
	CONSUL_ACCESS_FUZZ=50 $(BIN)/python -m pytest -q tests/faults/test_fuzz.py
	$(BIN)/python tests/faults/fuzz.py -max_total_time=$(or $(SECONDS),300) -timeout=20

docs: .venv/dev
	$(BIN)/sphinx-build -W -n -q -j auto -b html docs .venv/docs

faces: .venv/dev
	$(BIN)/python tools/faces.py

compat: $(PROTOBUFS:%=.venv/compat/%/made)
	for version in $(PROTOBUFS); do .venv/compat/$$version/bin/python -m pytest -q tests/compat || exit 1; done

bench: .venv/dev
	$(BIN)/python -m benchmarks $(BENCH)

versions: .venv/versions
	PATH="$(abspath $(BIN)):$$PATH" $(BIN)/nox $(if $(PYTHONS),--python $(PYTHONS))

audit: .venv/dev
	$(BIN)/python -m tools.audit $(if $(SERVICE),--vulnerability-service $(SERVICE))

screenshots: .venv/dev
	$(BIN)/python -m tools.screenshots

clean:
	rm -rf .venv

# --- the environment: made again when pyproject.toml changes ---------------------------------------------------

.venv/made:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "consul-access needs Python 3.11 or newer: make PYTHON=...")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install -q --upgrade pip
	touch $@

.venv/demo: .venv/made pyproject.toml
	$(BIN)/python -m pip install -q -e .
	touch $@

.venv/dev: .venv/made pyproject.toml
	$(BIN)/python -m pip install -q -e . --group dev
	# What docs/migrate moves from. Both have the same module name, so each lives in a folder of its own.
	for peer in python-consul==1.1.0 py-consul==1.8.0; do \
		$(BIN)/python -m pip install -q --no-deps --upgrade --target .venv/migrating/$${peer%%==*} $$peer || exit 1; \
	done
	touch $@ .venv/demo

.venv/compat/%/made: pyproject.toml
	$(PYTHON) -m venv .venv/compat/$*
	.venv/compat/$*/bin/python -m pip install -q --upgrade pip
	.venv/compat/$*/bin/python -m pip install -q -e . --group compat "protobuf==$*"
	touch $@

.venv/fuzz/made: .venv/dev
	$(BIN)/python -m pip install -q --group fuzz
	mkdir -p $(@D) && touch $@

.venv/versions: .venv/dev
	$(BIN)/python -m pip install -q --group versions
	touch $@

# What meets the same faults as ours; the benchmarks make an environment for each client.
.venv/bench: .venv/dev
	$(BIN)/python -m pip install -q --group bench
	# The newest protobuf that etcd3 takes by itself.
	$(BIN)/python -m pip install -q --no-deps --upgrade --target .venv/protobuf-3 protobuf==3.20.3
	touch $@
