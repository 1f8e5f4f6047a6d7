.PHONY: check format test

check:  ## the checks that CI runs besides the tests
	ruff format --check .
	ruff check .
	mypy

format:
	ruff format .
	ruff check --fix .

test:
	python -m pytest -n 2 -m "not slow"
