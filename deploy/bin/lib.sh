# shellcheck shell=bash
# Shared by the scripts in deploy/: messages, the engine's command line, digests of what an image is made from.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
readonly root

say() { printf 'millrace: %s\n' "$*"; }
die() {
    printf 'millrace: %s\n' "$*" >&2
    exit 1
}

# The engine's CLI; Podman understands every call made here.
engine() { "${MILLRACE_ENGINE:-docker}" "$@"; }

# compose ARGS...: the v2 plugin where there is one, else the docker-compose command. Runs in the repository's root.
compose() (
    cd "$root" || exit
    if engine compose version >/dev/null 2>&1; then
        engine compose "$@"
    else
        docker-compose "$@"
    fi
)

# env_value NAME [DEFAULT]: a variable from .env without running the file as code. The environment wins, as in compose.
env_value() {
    local name=$1 line=
    if [[ -n ${!name-} ]]; then
        printf '%s' "${!name}"
        return
    fi
    if [[ -f $root/.env ]]; then
        line=$(grep -E "^$name=" "$root/.env" | tail -n 1 || true)
    fi
    line=${line#*=}
    printf '%s' "${line:-${2-}}"
}

# image_label IMAGE LABEL: empty when there is no such image or label.
image_label() { engine image inspect --format "{{ index .Config.Labels \"$2\" }}" "$1" 2>/dev/null || true; }

image_id() { engine image inspect --format '{{ .Id }}' "$1" 2>/dev/null || true; }

# digest_of WORD... -- PATH...: one digest over the words and over names, modes and bytes of all files below the paths.
# Names count from the repository's root, so that another clone of the same state finds its images made.
digest_of() (
    words=()
    while [[ $1 != -- ]]; do
        words+=("$1")
        shift
    done
    shift
    cd "$root" || exit
    {
        printf '%s\n' "${words[@]}"
        find "${@#"$root"/}" -type f ! -name '*.md' ! -path '*/tests/*' ! -path '*/__pycache__/*' -printf '%p %m\n' -exec sha256sum {} + | LC_ALL=C sort
    } | sha256sum | cut -d' ' -f1
)

# build_image NAME DOCKERFILE CONTEXT BASE DIGEST: nothing happens when the image already carries the digest.
build_image() {
    local name=$1 dockerfile=$2 context=$3 base=$4 digest=$5 variable log args=()
    [[ $(image_label "$name" millrace.inputs) != "$digest" ]] || return 0
    for variable in http_proxy https_proxy no_proxy; do
        [[ -z ${!variable-} ]] || args+=(--build-arg "$variable")
    done
    log=$(mktemp)
    say "building image $name"
    # The host's network, so that a package proxy on the host's loopback and the host's MTU hold for the build too.
    if ! BUILDAH_FORMAT=docker engine build --network host --build-arg "BASE=$base" "${args[@]}" \
        --label "millrace.image=$name" --label "millrace.inputs=$digest" \
        --tag "$name" --file "$dockerfile" "$context" >"$log" 2>&1; then
        tail -n 30 "$log" >&2
        rm -f "$log"
        die "image $name could not be built from $dockerfile (its last lines are above)"
    fi
    rm -f "$log"
}

# containers_of SERVICE: ids of this project's containers of a service, running or not. Names differ between compose
# versions, labels do not.
containers_of() {
    engine ps --all --quiet --filter "label=com.docker.compose.project=$(env_value COMPOSE_PROJECT_NAME millrace)" \
        --filter "label=com.docker.compose.service=$1"
}

# Compose wants each variable of its file set, also to stop or remove what it made. For when .env is gone.
fill_env() {
    local name
    COMPOSE_PROJECT_NAME=$(env_value COMPOSE_PROJECT_NAME millrace)
    export COMPOSE_PROJECT_NAME
    for name in MILLRACE_TOKEN MILLRACE_ENROL_TOKEN MILLRACE_DB_PASSWORD MILLRACE_DB_SUPERUSER_PASSWORD \
        MILLRACE_AMQP_FRONTEND_PASSWORD MILLRACE_AMQP_BUILDER_PASSWORD; do
        [[ -n $(env_value "$name") ]] || export "$name=unset"
    done
}

# The bridge the sandboxes are on while dependencies are installed: nobody else is, and they do not see each other.
ensure_sandbox_network() {
    local name
    name=$(env_value MILLRACE_SANDBOX_NETWORK millrace-sandbox)
    engine network inspect "$name" >/dev/null 2>&1 ||
        engine network create --label millrace.network=sandbox --opt com.docker.network.bridge.enable_icc=false \
            --opt "com.docker.network.driver.mtu=$(env_value MILLRACE_NETWORK_MTU 1500)" "$name" >/dev/null
}

# remove COMMAND... : each id read from standard input.
remove() { xargs --no-run-if-empty "${MILLRACE_ENGINE:-docker}" "$@" >/dev/null; }

# Containers, volumes, networks and sandboxes of this installation; sandboxes are told apart by their network.
remove_installation() {
    local network
    fill_env
    network=$(env_value MILLRACE_SANDBOX_NETWORK millrace-sandbox)
    compose down --volumes --remove-orphans --timeout 10
    engine ps --all --quiet --filter label=millrace.attempt --filter "network=$network" | remove rm --force --volumes
    engine network ls --quiet --filter "name=^$network\$" | remove network rm
}
