# shellcheck shell=bash disable=SC2034
# The stage: throw-away systems from the rig, the bundle on them, and the hub beside them. Sourced by the system tests
# (through lib.sh), the demo and the benchmarks. All of it is gone when the sourcing script calls `stage_end`.
set -uo pipefail
export LC_ALL=C
SYS=$(cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")" && pwd)
TOP=$(cd "$SYS/../.." && pwd)
RIG=$TOP/tests/rig
DIST=$TOP/dist
BINARY=$DIST/omsagent
BUNDLE=$(find "$DIST" -maxdepth 1 -name 'omsagent-*.universal.x64.sh' 2>/dev/null | sort | tail -n 1)
[ -n "$BUNDLE" ] || { echo "no bundle in dist/: run 'make bundle' first" >&2; exit 1; }
BUNDLE_NAME=${BUNDLE##*/}
DOMAIN=hub.test
# The two workspaces every hub here has, and one it has not.
WS=11111111-2222-3333-4444-555555555555
WS2=aaaaaaaa-bbbb-4ccc-8ddd-eeeeeeeeeeee
NOWS=99999999-8888-7777-6666-555555555555

WORK=$(mktemp -d "${TMPDIR:-/var/tmp}/omsagent-test.XXXXXX")
chmod 755 "$WORK"
INSTANCES=()
HUB_DATA='' HUB_BINARY=$BINARY

# The secrets folder is shown inside as /mnt/k: a key reaches the system under test through files, never through argv.
mkdir -p "$WORK/k"
head -c 64 /dev/urandom | base64 -w0 >"$WORK/k/key"
head -c 64 /dev/urandom | base64 -w0 >"$WORK/k/wrong"

stage_end() {
    hub_stop
    [ ${#INSTANCES[@]} = 0 ] || "$RIG/down" --now "${INSTANCES[@]}" >/dev/null 2>&1
    rm -rf --one-file-system "$WORK"
}
stage_broken() { echo "stage: $*" >&2; exit 1; }

# start NAME [options of the rig's up]: a booted instance of $ROOT; dist/ is /mnt/dist, the helpers /mnt/t, the secrets /mnt/k.
start() {
    local name=$1; shift
    INSTANCES+=("$name")
    "$RIG/up" --boot --bind-ro "$DIST:/mnt/dist" --bind-ro "$SYS:/mnt/t" --bind-ro "$WORK/k:/mnt/k" \
        --host "$WS.oms.$DOMAIN=127.0.0.1" --host "$WS.ods.$DOMAIN=127.0.0.1" \
        --host "$WS2.oms.$DOMAIN=127.0.0.1" --host "$WS2.ods.$DOMAIN=127.0.0.1" \
        "$@" "$ROOT" "$name" 2>"$WORK/up" || { cat "$WORK/up" >&2; stage_broken "the rig could not start $ROOT"; }
}
on() { local name=$1; shift; "$RIG/exec" "$name" -- "$@"; }
# sh_ NAME 'SCRIPT' [ARGS]: a line of sh inside.
sh_() { local name=$1 text=$2; shift 2; "$RIG/exec" "$name" -- sh -c "$text" sh "$@"; }
inside() { local name=$1; shift; "$RIG/exec" "$name" -- /mnt/t/inside "$@"; }
# bundle NAME ARGS...: the bundle, as its users call it. KEY in the arguments is replaced inside, from the file.
bundle() {
    local name=$1; shift
    # shellcheck disable=SC2016
    sh_ "$name" 'cd /root; b=$1; shift; n=$#; while [ $n -gt 0 ]; do a=$1; shift; n=$((n-1)); case $a in KEY) a=$(cat /mnt/k/key);; WRONG) a=$(cat /mnt/k/wrong);; esac; set -- "$@" "$a"; done; exec sh "/mnt/dist/$b" "$@"' "$BUNDLE_NAME" "$@"
}
# admin NAME ARGS...: omsadmin.sh, KEY as above.
admin() {
    local name=$1; shift
    # shellcheck disable=SC2016
    sh_ "$name" 'n=$#; while [ $n -gt 0 ]; do a=$1; shift; n=$((n-1)); case $a in KEY) a=$(cat /mnt/k/key);; WRONG) a=$(cat /mnt/k/wrong);; esac; set -- "$@" "$a"; done; exec sh /opt/microsoft/omsagent/bin/omsadmin.sh "$@"' "$@"
}

# --- the hub, beside the instance: on the instance's own 127.0.0.1:443

hub() { "$HUB_BINARY" hub "$@"; }

# hub_make: a data folder with the two workspaces; the ca-file appears in the secrets folder.
hub_make() {
    HUB_DATA=$WORK/hub
    hub workspace add --data "$HUB_DATA" --id "$WS" --shared-key-file "$WORK/k/key" >"$WORK/hub-add" 2>&1 &&
    hub workspace add --data "$HUB_DATA" --id "$WS2" --shared-key-file "$WORK/k/key" >>"$WORK/hub-add" 2>&1 ||
        { cat "$WORK/hub-add" >&2; stage_broken 'the hub took no workspace'; }
}

# hub_start NAME [PREFIX COMMAND...]: serve in NAME's network, and nowhere else any more; the prefix (env, faketime) goes before the program.
# HUB_LISTEN: another address than 127.0.0.1:443.
hub_start() {
    local name=$1; shift
    hub_stop
    [ -n "$HUB_DATA" ] || hub_make
    "$RIG/netexec" "$name" -- "$@" "$HUB_BINARY" hub serve --data "$HUB_DATA" --listen "${HUB_LISTEN:-127.0.0.1:443}" --domain "$DOMAIN" >>"$WORK/hub.log" 2>&1 &
    local pid=$! i
    echo "$pid" >"$WORK/hub.pid"
    for i in $(seq 1 100); do
        ! "$RIG/netexec" "$name" -- ss -Hltn 'sport = :443' | grep -q . || break
        kill -0 "$pid" 2>/dev/null || break
        sleep 0.1
    done
    if [ "$i" = 100 ] || ! kill -0 "$pid" 2>/dev/null; then
        sed 's/^/hub: /' "$WORK/hub.log" >&2; stage_broken 'the hub does not serve'
    fi
    cp "$HUB_DATA/ca/ca.pem" "$WORK/k/ca.pem"
}
hub_stop() {
    local pid; pid=$(cat "$WORK/hub.pid" 2>/dev/null) || return 0
    rm -f "$WORK/hub.pid"
    kill "$pid" 2>/dev/null || return 0
    for _ in $(seq 1 100); do kill -0 "$pid" 2>/dev/null || return 0; sleep 0.05; done
    kill -KILL "$pid" 2>/dev/null || true
}
hub_query() { hub query --data "$HUB_DATA" "$1"; }
# upgrade_args: what a user with a private hub types.
UPGRADE=(--upgrade -w "$WS" -s KEY -d "$DOMAIN" --ca-file /mnt/k/ca.pem)
agent_unit() { printf 'omsagent-%s.service' "${1:-$WS}"; }
