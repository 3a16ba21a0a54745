# make demo    draw with the shipped models and compare, into out/
# make test    all tests
# make check   format, lint, types, layers
# make bench   speed, bookkeeping, graphs, training throughput
# make size    lines a file, and the change against main
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready

.PHONY: demo test laws check bench size format clean

demo: $(READY)
	$(BIN)/skipdit demo --out out

test: $(READY)
	$(BIN)/python -m pytest -q -n 2 --dist worksteal

laws: $(READY)
	$(BIN)/python -m pytest -q -n 2 --dist worksteal tests/laws

check: $(READY)
	$(BIN)/ruff format --check skipdit tests examples
	$(BIN)/ruff check skipdit tests examples
	$(BIN)/mypy
	$(BIN)/python -m pytest -q tests/test_layers.py

bench: $(READY)
	$(BIN)/python -m skipdit.bench

format: $(READY)
	$(BIN)/ruff format skipdit tests examples
	$(BIN)/ruff check --fix skipdit tests examples

size:
	@git ls-files 'skipdit/*.py' | xargs wc -l | sort -n
	@git diff --shortstat main -- skipdit 2>/dev/null || true

clean:
	rm -rf .venv out

$(READY): pyproject.toml constraints.txt
	test -d .venv || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $(READY)
