#!/usr/bin/env bash
# Measures the pipeline on this machine: `make bench`. Words after the name choose measurements
# (memory idle claim throughput overhead logs list start relay); MILLRACE_BENCH_RUNS sets how often each is repeated (5).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

. scripts/test-env
prepare_programs
prepare_services
trap stop_services EXIT
# The broker's disk is part of the floor, that of spool and results is not: where memory allows it they are kept there.
if [[ -z ${TMPDIR-} && $(df --output=avail --block-size=1M /dev/shm 2>/dev/null | tail -n 1) -gt 2048 ]]; then
    export TMPDIR=/dev/shm
fi
cargo build --quiet --release --locked -p millrace-test-programs --bin millrace-bench
target/release/millrace-bench "$@"
