#!/usr/bin/env bash
# Runs mock-offline's tests in an image that has it, with the capabilities of a sandbox and not one more.
# usage: test.sh IMAGE [TEST...]   (a TEST is what unittest takes: test_parts, test_outcomes.Failures, ...)
set -euo pipefail

[[ $# -ge 1 ]] || {
    echo "usage: test.sh IMAGE [TEST...]" >&2
    exit 2
}
image=$1
shift
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
capabilities=(SYS_ADMIN SYS_CHROOT SETUID SETGID CHOWN DAC_OVERRIDE FOWNER FSETID MKNOD KILL SETFCAP)
[[ $# -gt 0 ]] || set -- discover

# The tests come by stdin, so that nothing has to be mounted.
tar -c -C "$here/tests" --exclude=__pycache__ . |
    docker run --rm --interactive --network none --security-opt no-new-privileges --cap-drop=ALL \
        "${capabilities[@]/#/--cap-add=}" --env SUDO_UID=1000 --env SUDO_GID=1000 --entrypoint sh "$image" \
        -c 'mkdir /tmp/tests && cd /tmp/tests && tar -x && exec python3 -B -m unittest "$@"' sh "$@"
