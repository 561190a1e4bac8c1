# Everything a person or CI does here is one of these; the work is in deploy/bin/ and scripts/.
SHELL := bash
.DEFAULT_GOAL := help
.PHONY: up down clean test check bench chaos lint schemas help

up: ## bring everything up, the first time with a sample build
	@deploy/bin/up

down: ## stop the services; data and scale stay
	@. deploy/bin/lib.sh && fill_env && compose stop

clean: ## remove containers, volumes, sandboxes and images
	@deploy/bin/clean

test: ## all that CI runs
	@scripts/test.sh

check: ## what takes minutes of it: format, clippy, unit tests, tests of each crate
	@scripts/check.sh

bench: ## measure, with ratios to a floor of the same run
	@scripts/bench.sh

chaos: ## break a running pipeline for MINUTES=20 and prove that nothing is lost; SEED=, SANDBOX=real|noop, TASKS= (scripts/chaos.sh --help)
	@scripts/chaos.sh

lint: ## format, clippy with warnings denied, documentation
	cargo fmt --all --check
	cargo clippy --release --workspace --all-targets --locked -- -D warnings
	RUSTDOCFLAGS='-D warnings' cargo doc --release --workspace --no-deps --locked --quiet

schemas: ## generate schemas/ anew
	cargo run --release --locked --quiet -p millrace-wire --bin schemas
	cargo build --release --locked --quiet -p millrace-frontend
	mkdir -p schemas/http
	target/release/millrace-frontend openapi > schemas/http/openapi.json

help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-8s %s\n", $$1, $$2 }' Makefile
