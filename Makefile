# What people and CI run. `make` alone lists it.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

CARGO ?= cargo
# Whichever runner there is says at the end how many tests passed. nextest gives each test a process
# of its own and runs no documentation tests, which therefore come first.
NEXTEST := $(shell $(CARGO) nextest --version >/dev/null 2>&1 && echo yes)

.PHONY: help setup run test clients check fmt clippy doc tidy deny lab chaos outage model bench

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## install what the tests need beside Rust: clients in Node, Python and Java, Prometheus
	tests/setup.sh

run: ## build and run the gateway in front of a simulated kintone on loopback; Ctrl-C stops both
	$(CARGO) build --locked --workspace --bins
	tests/run.sh

test: setup ## every test
ifeq ($(NEXTEST),yes)
	$(CARGO) test --locked --workspace --doc
	$(CARGO) nextest run --locked --workspace --no-fail-fast
else
	$(CARGO) test --locked --workspace --no-fail-fast
endif

clients: setup ## real clients in every way in; prints what each shows of data and refusals
	tests/clients/matrix

check: fmt clippy doc tidy ## format, lints, documentation, house rules, licences

fmt: ## is everything formatted?
	$(CARGO) fmt --all --check

clippy: ## lints of all targets, warnings are errors
	$(CARGO) clippy --locked --workspace --all-targets -- -D warnings

doc: ## documentation, warnings are errors
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --locked --workspace --no-deps --document-private-items

tidy: ## imports run downward, files and functions stay short, banned words, crates and licences
	$(CARGO) test --locked --test tidy

deny: ## bans, licences and sources by cargo-deny, if it is installed
	$(CARGO) deny --locked check bans licenses sources

lab: ## the laboratory: real addresses in network namespaces, every packet checked (root); SCENARIO=NAME for some
	tests/lab/run $(SCENARIO)

chaos: ## two gateways, a real Redis, and half an hour of faults (CHAOS_SECONDS, CHAOS_SEED)
	CHAOS_SECONDS=$${CHAOS_SECONDS:-1800} $(CARGO) test --locked --test chaos -- --nocapture

outage: setup ## ten minutes without a mail server and a webhook, 10,000 calls failing (NOTIFY_OUTAGE_SECONDS)
	NOTIFY_OUTAGE_SECONDS=$${NOTIFY_OUTAGE_SECONDS:-600} $(CARGO) test --locked --test notify alone::an_outage -- --nocapture

model: ## the fleet's ledger under the model checker and the simulator, MODEL_EFFORT (20) times as long as in CI; permits under loom
	MODEL_EFFORT=$${MODEL_EFFORT:-20} $(CARGO) test --locked -p kintone-egress-model -p kintone-egress-loom -- --nocapture

bench: ## benchmarks; with BENCH_HARNESS=FOLDER also beside other proxies (tests/bench/compare.sh)
	$(CARGO) bench --locked -p kintone-egress-bench
	@if [ -n "$${BENCH_HARNESS:-}" ]; then tests/bench/compare.sh; fi
