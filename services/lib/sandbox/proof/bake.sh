# Bakes a chroot in a container of its base: mock's init, and a build that proves that builds are unprivileged. Builders
# and deploy/bin/bake-chroots run it by name as `sh /millrace/bake.sh ROOT`, beside proof.src.rpm and settings.sh, and commit the container
# when it ends with 0; then nothing of /millrace is left.
set -u
own=/usr/libexec/mock/mock
# Where mock comes from its RPM, mock of PATH is a link to consolehelper, which refuses root or has mock build as uid 0.
if [ ! -x "$own" ]; then
    named=$(command -v mock) || {
        echo "millrace-proof: refused: its base has no mock, neither $own nor in PATH"
        exit 1
    }
    case $(readlink -f "$named") in
    */consolehelper)
        echo "millrace-proof: refused: $named of its base is a link to consolehelper, through which package code can run as root, and mock's own program $own is not there"
        exit 1
        ;;
    esac
    own=$named
fi
. /millrace/settings.sh || exit
"$own" -r "$1" --isolation simple --init || exit
mkdir -p /millrace/results && chown "$SUDO_UID:$SUDO_GID" /millrace/results || exit
"$own" -r "$1" --isolation simple --no-clean --no-cleanup-after --resultdir /millrace/results \
    --config-opts print_main_output=True --rebuild /millrace/proof.src.rpm
code=$?
echo "millrace-proof: ended with $code"
# The last lines are what is read.
grep -ho 'millrace-proof: \(refused: .*\|unprivileged\)' /millrace/results/build.log | tail -n 1
rm -rf /millrace
exit "$code"
