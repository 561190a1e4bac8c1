#!/usr/bin/env bash
# `make chaos`: breaks a running pipeline in every way it must survive, and proves that nothing was lost, doubled, stuck or
# left behind. Settings are environment variables, or flags given to this script: scripts/chaos.sh --help.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

. scripts/test-env
cargo build --quiet --release --locked -p millrace-test-programs --bin millrace-chaos
chaos=target/release/millrace-chaos
for word in "$@"; do
    case $word in
    -h | --help | -V | --version | --plan) exec "$chaos" "$@" ;;
    esac
done
prepare_programs
# Spools and results are many small files: where memory allows it they are kept there.
if [[ -z ${TMPDIR-} && $(df --output=avail --block-size=1M /dev/shm 2>/dev/null | tail -n 1) -gt 2048 ]]; then
    export TMPDIR=/dev/shm
fi
exec "$chaos" "$@"
