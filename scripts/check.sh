#!/usr/bin/env bash
# `make check`: format, clippy, unit tests and the tests of each crate, for the working hour. What needs sandboxes, images
# of ours or a broker of its own is in `make test`.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

. scripts/test-env
began=$SECONDS

# Tests of crates against database and broker; nothing else has to be there.
services() {
    deploy/bin/make-env
    export_settings
    case $MILLRACE_RABBITMQ_IMAGE in
    millrace-offline/*) deploy/offline/build-images rabbitmq ;;
    esac
    prepare_services
}

tests() {
    local chosen
    mapfile -t chosen < <(crate_tests)
    cargo nextest run --profile quick --release --locked --cargo-quiet --workspace "${chosen[@]}"
}

need_nextest
step "format" cargo fmt --all --check
step "documents" scripts/check-docs
step "clippy" cargo clippy --quiet --release --workspace --all-targets --locked -- -D warnings
trap stop_services EXIT
step "database and broker" services
step "tests" tests
say "all passed in $((SECONDS - began)) s:"
print_times
