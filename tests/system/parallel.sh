#!/bin/bash
# parallel ROOT [N...]   the bundle started several times at once (2, then 8): one winner at a time, each ends well or says
# who holds the lock, and the host is as one run leaves it.
. "$(dirname "$(readlink -f "$0")")/lib.sh"
shift || true
counts=("$@"); [ ${#counts[@]} -gt 0 ] || counts=(2 8)

# Everything but what a running agent keeps for itself (queues, logs), and what each run wrote down of itself.
state() { inside "$1" ours; inside "$1" accounts; inside "$1" list | grep -vE ' /var/opt/microsoft/omsagent/[0-9a-f-]{36}/(state|log)/| /var/lib/omsagent/[^ ]+ $'; }

# at_once NAME N ARGS...: N bundles, started in one moment; their exit codes, one a line, in $WORK/codes.
at_once() {
    local name=$1 n=$2 i; shift 2
    # shellcheck disable=SC2016
    sh_ "$name" 'rm -rf /tmp/race; mkdir /tmp/race; n=$1; b=$2; shift 2
        for i in $(seq 1 $n); do ( while [ ! -e /tmp/race/go ]; do :; done; sh "/mnt/dist/$b" "$@" >/tmp/race/out.$i 2>&1; echo $? >/tmp/race/code.$i ) & done
        sleep 0.3; touch /tmp/race/go; wait' "$n" "$BUNDLE_NAME" "$@"
    sh_ "$name" 'cat /tmp/race/code.*' >"$WORK/codes"
    equal "$(wc -l <"$WORK/codes")" "$n" 'programs that came to an end'
    sh_ "$name" 'tail -n +1 /tmp/race/out.*' >"$WORK/race"
    unsaid 'panicked|dpkg frontend lock|dpkg database lock|cannot be taken' "$WORK/race"
    for i in $(cat "$WORK/codes"); do [ "$i" = 0 ] || { cat "$WORK/race"; wrong "exit $i"; }; done
}

together() { # N
    local name=par$$x$1 n=$1
    start "$name"; hub_start "$name"
    inside "$name" list >"$WORK/before"; inside "$name" accounts >"$WORK/before.accounts"
    at_once "$name" "$n" --upgrade -w "$WS" --shared-key-file /mnt/k/key -d "$DOMAIN" --ca-file /mnt/k/ca.pem
    # Exactly one of them installed; the others found it done.
    equal "$(grep -c -- '----- Installing package' "$WORK/race")" 1 'installations'
    equal "$(grep -c 'Onboarding success' "$WORK/race")" 1 'onboardings'
    equal "$(sh_ "$name" 'grep -c . /etc/opt/microsoft/omsagent/*/certs/oms.key' | wc -l)" 1 'keys'
    exits 0 admin "$name" -l
    said 'Onboarded\(OMSAgent Running\)'
    local mark="par-$$-$n"
    sh_ "$name" "logger -t rigtest -p auth.warning '$mark'"; arrives "$mark" 30
    state "$name" >"$WORK/state"
    same_file "$WORK/one" "$WORK/state"
    at_once "$name" "$n" --purge
    inside "$name" list >"$WORK/after"; inside "$name" accounts >"$WORK/after.accounts"
    same_file "$WORK/before" "$WORK/after"; same_file "$WORK/before.accounts" "$WORK/after.accounts"
    hub_stop; "$RIG/down" --now "$name"
}

# Removing while installing: either order, but one after the other; and the host is in one of the two clean states.
against_each_other() {
    local name=par$$v
    start "$name"; hub_start "$name"
    # shellcheck disable=SC2016
    sh_ "$name" 'mkdir /tmp/race; b=/mnt/dist/$1; shift
        for i in 1 2 3 4; do
            ( sh "$b" "$@" >/tmp/race/up.$i 2>&1; echo $? >/tmp/race/code.up.$i ) & ( sh "$b" --purge >/tmp/race/purge.$i 2>&1; echo $? >/tmp/race/code.purge.$i ) &
        done; wait' "$BUNDLE_NAME" --upgrade -w "$WS" --shared-key-file /mnt/k/key -d "$DOMAIN" --ca-file /mnt/k/ca.pem
    sh_ "$name" 'tail -n +1 /tmp/race/*' >"$WORK/race"
    sh_ "$name" 'cat /tmp/race/code.*' | sort | uniq -c
    unsaid 'panicked' "$WORK/race"
    if sh_ "$name" 'cat /tmp/race/code.*' | grep -qvx 0; then cat "$WORK/race"; wrong 'one of them failed'; fi
    exits 0 bundle "$name" "${UPGRADE[@]}"
    state "$name" >"$WORK/state"
    same_file "$WORK/one" "$WORK/state"
    hub_stop; "$RIG/down" --now "$name"
}

name=par$$
start $name; hub_start $name
bundle $name "${UPGRADE[@]}" >"$OUT" 2>&1 || { cat "$OUT"; stage_broken 'one alone fails'; }
state $name >"$WORK/one"
hub_stop; "$RIG/down" --now $name
for n in "${counts[@]}"; do case_ "$n bundles at once, then $n purges at once: as one alone" together "$n"; done
case_ 'four installations and four purges against each other' against_each_other
