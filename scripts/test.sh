#!/usr/bin/env bash
# `make test`: everything CI runs, on a machine with nothing installed by hand but what README names.
# What could not be tested here is named in the last lines.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

. scripts/test-env
untested=()
began=$SECONDS

# step NAME COMMAND...: says what runs and how long it took.
step() {
    local name=$1 from=$SECONDS
    shift
    say "== $name"
    "$@"
    say "== $name: done in $((SECONDS - from)) s"
}

need_nextest() {
    cargo nextest --version >/dev/null 2>&1 ||
        die "cargo-nextest is missing: cargo install --locked cargo-nextest"
}

# The same type must give the same file: a changed message or endpoint without its schema stops here.
schemas_are_current() {
    local fresh
    fresh=$(mktemp -d)
    cp -r schemas/. "$fresh/"
    target/release/schemas "$fresh" && target/release/millrace-frontend openapi >"$fresh/http/openapi.json"
    if ! diff -r schemas "$fresh" >/dev/null; then
        diff -r -u schemas "$fresh" | head -n 40 >&2 || true
        rm -rf "$fresh"
        die "schemas/ does not say what the types say: run make schemas and commit the result"
    fi
    rm -rf "$fresh"
}

dependency_rules() {
    if ! scripts/cargo-deny check --hide-inclusion-graph bans licenses sources; then
        die "a dependency rule of deny.toml is broken (above)"
    fi
    scripts/cargo-deny check --hide-inclusion-graph advisories >/dev/null 2>&1 ||
        untested+=("advisories: the advisory database is not reachable, or has news (scripts/cargo-deny check advisories)")
}

shell_scripts() {
    command -v shellcheck >/dev/null || apt_install shellcheck || {
        untested+=("shell scripts: shellcheck is missing (apt-get install shellcheck)")
        return 0
    }
    git ls-files -z | xargs -0 grep -lIE '^#!/usr/bin/env bash|^# shellcheck shell=bash' | xargs shellcheck --external-sources
}

podman_privileged() {
    scripts/test-podman || {
        [[ $? == 77 ]] || die "the sandbox tests failed on Podman (above)"
        untested+=("the privileged profile on Podman: $(cat target/podman-skipped 2>/dev/null || echo 'no Podman here')")
    }
}

# Crash points are for tests: what is deployed has none, and what the crash suite runs has them, or it would prove nothing.
crash_points_stay_in_tests() {
    local program
    for program in frontend builder; do
        ! grep -q MILLRACE_CRASH_AT "target/image/$program/millrace-$program" ||
            die "the program in the image of the $program has crash points: it was compiled with --all-features"
        grep -q MILLRACE_CRASH_AT "target/release/millrace-$program" ||
            die "target/release/millrace-$program has no crash points: the crash suite would not run"
    done
}

need_nextest
step "format" cargo fmt --all --check
step "programs, images, chroot, fixtures" prepare_programs
step "clippy" cargo clippy --quiet --workspace --all-targets --all-features --locked -- -D warnings
step "documentation" env RUSTDOCFLAGS='-D warnings' cargo doc --workspace --no-deps --locked --quiet
step "shell scripts" shell_scripts
step "dependency rules" dependency_rules
step "tests compiled" cargo nextest run --no-run --release --locked --workspace --all-features --cargo-quiet
step "programs with crash points" cargo build --quiet --release --locked --workspace --all-features --bins
step "crash points" crash_points_stay_in_tests
step "schemas" schemas_are_current
step "mock-offline" deploy/offline/mock/test.sh "$MILLRACE_TEST_CHROOT_IMAGE"
prepare_services
trap stop_services EXIT
step "tests" cargo nextest run --release --locked --workspace --all-features --cargo-quiet
step "sandboxes on Podman, privileged" podman_privileged
step "compose: up, twice, three builders, down" scripts/test-compose

say "all passed in $((SECONDS - began)) s"
for what in "${untested[@]}"; do
    say "not tested here: $what"
done
say "not tested here: the images and mirrors of Fedora, unless this machine reaches them (chroot ${MILLRACE_TEST_CHROOT})"
