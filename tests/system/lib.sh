# shellcheck shell=bash disable=SC2034
# Shared by the system tests: source it first. A test is a bash function run by `case_`; it fails when any command in it
# fails. The stage (systems, bundle, hub) is in stage.sh.
ROOT=${1:-bookworm}
. "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/stage.sh"
OUT=$WORK/out
PASSED=0 FAILED=0
SELF=$(basename "$0" .sh)

finish() {
    local rc=$?
    trap - EXIT
    # Left in the middle (the rig or the hub did not come up): that is a failure too.
    [ $rc = 0 ] || FAILED=$((FAILED + 1))
    stage_end
    echo "$SELF $ROOT: $PASSED passed, $FAILED failed"
    [ "$FAILED" = 0 ] && [ "$PASSED" -gt 0 ] || exit 1
    exit 0
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

# case_ "what is shown" FUNCTION [ARGS]: runs it with `set -e`; a failing one shows what it printed.
case_() {
    local what=$1 t0 t1; shift
    t0=$(date +%s%N)
    ( set -eEo pipefail; trap 'echo "failed: line $LINENO: $BASH_COMMAND"' ERR; "$@" ) >"$WORK/case" 2>&1
    local rc=$?
    t1=$(( ($(date +%s%N) - t0) / 1000000 ))
    if [ $rc = 0 ]; then
        PASSED=$((PASSED + 1)); printf 'ok    %-19s %s (%d.%01d s)\n' "$ROOT" "$what" $((t1 / 1000)) $((t1 % 1000 / 100))
    else
        FAILED=$((FAILED + 1)); printf 'FAIL  %-19s %s (exit %d)\n' "$ROOT" "$what" $rc
        sed 's/^/      | /' "$WORK/case" | tail -n "${FAIL_LINES:-60}"
    fi
    return 0
}

wrong() { echo "WRONG: $*"; return 1; }
equal() { [ "$1" = "$2" ] || wrong "${3:-value} is \`$1\`, wanted \`$2\`"; }
same_file() { diff -u "$1" "$2" | head -n 80 && cmp -s "$1" "$2" || wrong "$1 and $2 differ (above)"; }
# no COMMAND...: it must fail. (Plain `! command` does not end a function under `set -e`.)
no() { if "$@"; then wrong "must not succeed: $*"; fi; }
# said PATTERN [FILE]: the last output has it.
said() { grep -qE -- "$1" "${2:-$OUT}" || { sed 's/^/  > /' "${2:-$OUT}"; wrong "nothing said like: $1"; }; }
unsaid() { ! grep -nE -- "$1" "${2:-$OUT}" || wrong "must not be said: $1"; }
# exits CODE COMMAND...: stdout and stderr go to $OUT (and $OUT.err alone holds stderr).
exits() {
    local want=$1 got=0; shift
    "$@" >"$OUT.out" 2>"$OUT.err" </dev/null || got=$?
    cat "$OUT.out" "$OUT.err" >"$OUT"
    [ "$got" = "$want" ] || { sed 's/^/  > /' "$OUT"; wrong "exit $got, wanted $want: $*"; }
}

is_rpm() { case $ROOT in rhel*|rocky*|*+dnf*|*+rpm*|sles*) return 0;; esac; return 1; }

# A root whose first process is not systemd: services are init scripts there.
has_systemd() { case $ROOT in *+sysv*) return 1;; esac; return 0; }
agent_start() { # NAME
    if has_systemd; then sh_ "$1" "systemctl start $(agent_unit)"; else sh_ "$1" "service omsagent-$WS start"; fi
}
agent_stop() { # NAME
    if has_systemd; then sh_ "$1" "systemctl stop $(agent_unit)"; else sh_ "$1" "service omsagent-$WS stop"; fi
}

# arrives TEXT SECONDS: a record with that text is in the hub. By lines that are not ours syslog-ng waits for a minute before
# it sends to a port again that was closed for a moment, as while the agent restarts: PATIENCE is at least that.
arrives() {
    local i limit=$2
    [ "$limit" -ge "${PATIENCE:-0}" ] || limit=$PATIENCE
    for i in $(seq 1 $((limit * 5))); do
        if hub_query "$(syslog_like "$1")" 2>"$WORK/query.err" | grep -qF -- "$1"; then return 0; fi
        sleep 0.2
    done
    cat "$WORK/query.err"; hub_query "$SQL_SYSLOG" | tail -n 5
    wrong "\`$1\` did not arrive in $limit s"
}
absent() { ! hub_query "$(syslog_like "$1")" | grep -F -- "$1" || wrong "\`$1\` arrived, and must not"; }
SQL_SYSLOG='SELECT Facility, SeverityLevel, ProcessName, SyslogMessage FROM Syslog'
SQL_HEARTBEAT='SELECT TimeGenerated, Computer FROM Heartbeat'
syslog_like() { printf "%s WHERE SyslogMessage LIKE '%%%s%%'" "$SQL_SYSLOG" "$1"; }
