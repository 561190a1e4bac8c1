#!/usr/bin/env bash
# `make test`: everything CI runs, on a machine with nothing installed by hand but what README names.
# What could not be tested here is named in the last lines.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

. scripts/test-env
began=$SECONDS
readonly logs=target/steps
declare -A job_of=()

# untested WHAT: named in the last lines. A file, because steps in the background say it, too.
untested() { echo "$*" >>"$logs/untested"; }

# in_background NAME COMMAND...: starts a step that mostly waits, or that others shall not wait for; `finish NAME` shows
# what it printed. A process group of its own, so that it can be ended with all its children.
in_background() {
    local name=$1
    shift
    say "== $name: begins in the background"
    set -m
    (
        from=$SECONDS
        "$@"
        echo "$((SECONDS - from))" >"$logs/$name.time"
    ) >"$logs/$name.log" 2>&1 &
    set +m
    job_of[$name]=$!
}

# finish NAME: waits for a step in the background; its failure is that of the run.
finish() {
    local name=$1 status=0
    wait "${job_of[$name]}" || status=$?
    unset "job_of[$name]"
    cat "$logs/$name.log"
    [[ $status == 0 ]] || die "$name: failed (above)"
    step_times+=("$(<"$logs/$name.time") $name (in the background)")
    say "== $name: done in $(<"$logs/$name.time") s"
}

# Also after a failure: what still runs in the background is ended.
clean_up() {
    local job
    for job in "${job_of[@]}"; do
        kill -- "-$job" 2>/dev/null || true
    done
    stop_services
    if compgen -G "$logs/*.xml" >/dev/null; then
        scripts/slowest-tests 20 "$logs"/*.xml || true
    fi
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
        untested "advisories: the advisory database is not reachable, or has news (scripts/cargo-deny check advisories)"
}

shell_scripts() {
    command -v shellcheck >/dev/null || apt_install shellcheck || {
        untested "shell scripts: shellcheck is missing (apt-get install shellcheck)"
        return 0
    }
    git ls-files -z | xargs -0 grep -lIE '^#!/usr/bin/env bash|^# shellcheck shell=bash' | xargs shellcheck --external-sources
}

# Whatever needs none of our programs: mostly downloads and containers, beside the compiler.
base_images() {
    install_postgres
    deploy/bin/make-env
    ensure_sandbox_network
    case $(env_value MILLRACE_RABBITMQ_IMAGE rabbitmq:4) in
    # The last two are for the test of compose, which says so when it has to do without them.
    millrace-offline/*)
        deploy/offline/build-images
        deploy/offline/build-images compose nginx || true
        ;;
    esac
    deploy/bin/bake-chroots
    export_settings
    tests/fixtures/make-srpms.sh "$MILLRACE_TEST_CHROOT_IMAGE" target/fixtures
}

# The suites, and the programs that they run: those that die at crash points, from the same libraries as those in the images.
compile_suites() {
    cargo build --quiet --release --locked -p millrace-tests -p millrace-test-programs -p millrace-wire \
        --test '*' --bin crash-frontend --bin crash-builder --bin schemas
    mkdir -p target/test-programs target/test-binaries
    # A copy of our own: `make up` may put other programs into target/release while the tests run.
    cp -f target/release/millrace target/image/millrace-supervisor target/test-programs/
    cp -f target/release/crash-frontend target/test-programs/millrace-frontend
    cp -f target/release/crash-builder target/test-programs/millrace-builder
    cargo metadata --format-version 1 --locked >target/test-binaries/cargo.json
    list_tests suites -p millrace-tests --test '*'
}

# list_tests NAME CHOICE...: the binaries of a choice of tests, as run_tests wants them.
list_tests() {
    local name=$1
    shift
    cargo nextest list --release --locked --cargo-quiet --list-type binaries-only --message-format json "$@" \
        >"target/test-binaries/$name.json"
}

# Beside the suites, which mostly wait, and behind them in rank: compiling, and rules over the sources.
crates_and_rules() {
    local chosen
    renice --priority 19 --pid "$BASHPID" >/dev/null
    mapfile -t chosen < <(crate_tests)
    list_tests crates --workspace "${chosen[@]}"
    list_tests podman -p millrace-sandbox -p millrace-tests --test '*'
    cargo clippy --quiet --release --workspace --all-targets --locked -- -D warnings
    RUSTDOCFLAGS='-D warnings' cargo doc --quiet --release --workspace --no-deps --locked
    dependency_rules
}

podman_privileged() {
    scripts/test-podman || {
        [[ $? == 77 ]] || die "the sandbox tests failed on Podman (above)"
        untested "the privileged profile on Podman: $(cat target/podman-skipped 2>/dev/null || echo 'no Podman here')"
    }
}

# tests_of NAME: runs what list_tests has listed. The report of each run is kept, for scripts/slowest-tests.
tests_of() {
    local status=0
    MILLRACE_TEST_LIST=$1 run_tests --profile default || status=$?
    mv -f target/nextest/default/junit.xml "$logs/$1.xml" || true
    return "$status"
}

# To die at a crash point is for tests: what is deployed never does, and what the crash suite runs does, or it would prove
# nothing.
crash_points_stay_in_tests() {
    local program
    for program in frontend builder; do
        ! grep -q MILLRACE_CRASH_AT "target/image/$program/millrace-$program" ||
            die "the program in the image of the $program dies at crash points: that is for tests/programs"
        grep -q MILLRACE_CRASH_AT "target/test-programs/millrace-$program" ||
            die "target/test-programs/millrace-$program does not die at crash points: the crash suite would not run"
    done
}

need_nextest
deploy/bin/check
rm -rf "$logs"
mkdir -p "$logs"
trap clean_up EXIT

step "format" cargo fmt --all --check
step "documents" scripts/check-docs
in_background "images, chroot, fixtures" base_images
in_background "shell scripts" shell_scripts
step "programs" deploy/bin/compile
finish "images, chroot, fixtures"
step "images of the services" deploy/bin/build-images
finish "shell scripts"
step "suites compiled" compile_suites
step "crash points" crash_points_stay_in_tests
step "schemas" schemas_are_current

export MILLRACE_TEST_SUPERVISOR=$PWD/target/test-programs/millrace-supervisor
export_settings
export MILLRACE_TEST_BIN=$PWD/target/test-programs MILLRACE_TEST_BINARIES=$PWD/target/test-binaries
prepare_services
in_background "tests of the crates compiled, clippy, documentation, dependencies" crates_and_rules
step "suites" tests_of suites
in_background "mock-offline" deploy/offline/mock/test.sh "$MILLRACE_TEST_CHROOT_IMAGE"
finish "tests of the crates compiled, clippy, documentation, dependencies"
in_background "sandboxes on Podman, privileged" podman_privileged
step "tests of the crates" tests_of crates
step "compose: up, twice, three builders, down" scripts/test-compose
finish "mock-offline"
finish "sandboxes on Podman, privileged"

say "all passed in $((SECONDS - began)) s:"
print_times
if [[ -e $logs/untested ]]; then
    sed 's/^/millrace: not tested here: /' "$logs/untested"
fi
say "not tested here: the images and mirrors of Fedora, unless this machine reaches them (chroot ${MILLRACE_TEST_CHROOT})"
