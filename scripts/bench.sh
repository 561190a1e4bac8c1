#!/usr/bin/env bash
# Measures the pipeline on this machine: `make bench`. Words after the name choose measurements
# (memory claim throughput overhead); MILLRACE_BENCH_RUNS sets how often each is repeated (5).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

. scripts/test-env
prepare_programs
prepare_services
trap stop_services EXIT
cargo build --quiet --release --locked -p millrace-tests
target/release/millrace-bench "$@"
