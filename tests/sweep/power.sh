#!/bin/bash
# power ROOT [CUTS [MINUTES]]   power cuts (20, or as many as fit) at random moments of an upgrade of an onboarded host that forwards:
# what the file system has not committed is lost, the same disk boots again. Afterwards: the host boots, sudo's rules are
# whole and sudo works, the agent runs (the old or the new one) or the same command again mends it. SEED=n repeats the moments.
. "$(dirname "$(readlink -f "$0")")/../system/lib.sh"
HERE=$(dirname "$(readlink -f "$0")")
. "$HERE/next.sh"
cuts=${2:-20}; minutes=${3:-0}
deadline=$((SECONDS + minutes * 60))
SEED=${SEED:-$RANDOM}; RANDOM=$SEED
img=$(mktemp -d "$WORK/img.XXXXXX")         # on a disk: a tmpfs knows no half-written file
unaided=0 mended=0

fresh() { # DISK: instance $name on that image
    # shellcheck disable=SC2034
    INSTANCES=(); start $name --disk "img:$1"
}
agent_answers() { # the unit is active and what it runs is whole
    sh_ $name "systemctl is-active --quiet $(agent_unit) && /opt/microsoft/omsagent/bin/omsagent --version"
}

prepare() {
    name=pw$$
    next_bundle "$WORK/k"
    truncate -s 600M "$img/base"
    fresh "$img/base"; hub_start $name
    bundle $name "${UPGRADE[@]}" >"$OUT" 2>&1 || { cat "$OUT"; stage_broken 'the first installation fails'; }
    # How long an upgrade takes, on a copy of the disk.
    hub_stop; "$RIG/down" $name >/dev/null 2>&1
    cp --sparse=always "$img/base" "$img/timed"; fresh "$img/timed"; hub_start $name
    local t0; t0=$(date +%s%N)
    sh_ $name 'sh /mnt/k/next.sh --upgrade' >"$OUT" 2>&1 || { cat "$OUT"; stage_broken 'the upgrade fails without a cut'; }
    span=$((($(date +%s%N) - t0) / 1000000))
    hub_stop; "$RIG/down" --now $name >/dev/null 2>&1; rm "$img/timed"
}

cut_at() { # MILLISECONDS
    local at=$1 traffic up rc
    cp --sparse=always "$img/base" "$img/d"
    fresh "$img/d"; hub_start $name
    sh_ $name 'while :; do logger -t rigtest -p auth.warning "traffic"; sleep 0.05; done' >/dev/null 2>&1 & traffic=$!
    sh_ $name 'sync; exec sh /mnt/k/next.sh --upgrade' >"$WORK/cut" 2>&1 & up=$!
    sleep "$(printf '%d.%03d' $((at / 1000)) $((at % 1000)))"
    "$RIG/powercut" $name >"$WORK/powercut" 2>&1
    # Both ended with the instance, or are told to.
    kill "$traffic" "$up" 2>/dev/null || true
    wait "$traffic" "$up" 2>/dev/null || true
    hub_stop
    # The next boot of the same disk: `start` ends the test when it does not come up.
    fresh "$img/d"; hub_start $name
    sh_ $name 'visudo -c && sudo -n true && sudo -n -l -U omsagent' >"$WORK/sudo" 2>&1 || { cat "$WORK/sudo"; wrong 'sudo is broken after the cut'; }
    if agent_answers >"$WORK/version" 2>&1; then how=unaided; else how=mended; fi
    rc=0; sh_ $name 'sh /mnt/k/next.sh --upgrade' >"$WORK/again" 2>&1 || rc=$?
    [ $rc = 0 ] || { cat "$WORK/cut" "$WORK/again"; wrong "the command again exits $rc"; }
    agent_answers >"$WORK/version" 2>&1 || { cat "$WORK/version" "$WORK/again"; sh_ $name 'dpkg -l omsagent; journalctl -u "omsagent-*" | tail -n 20'; wrong 'no agent runs after the command again'; }
    said "${NEXT%-*}" "$WORK/version"
    sh_ $name 'visudo -cq; if command -v dpkg >/dev/null; then [ -z "$(dpkg --audit)" ]; else rpm -V omsagent; fi'
    local mark="power-$$-$at"
    sh_ $name "logger -t rigtest -p auth.warning '$mark'"; arrives "$mark" 60
    echo "$how" >"$WORK/how"
}

prepare
tried=0
for _ in $(seq 1 "$cuts"); do
    [ "$minutes" = 0 ] || [ $SECONDS -lt $deadline ] || break
    at=$((RANDOM * (span + 300) / 32768)); rm -f "$WORK/how"; tried=$((tried + 1))
    case_ "power cut after $at of $span ms" cut_at $at
    case $(cat "$WORK/how" 2>/dev/null) in unaided) unaided=$((unaided + 1));; mended) mended=$((mended + 1));; esac
    hub_stop; "$RIG/down" --now $name >/dev/null 2>&1; rm -f "$img/d"
done
echo "sweep power $ROOT: $tried cuts, $unaided came up by themselves, $mended after the command again, $FAILED failed (seed $SEED)"
exit 0
