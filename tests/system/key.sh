#!/bin/bash
# key ROOT   where the shared key is seen during and after onboarding: nowhere. Each of the four ways to hand it over is run
# twice: on a live system while every command line is sampled, and under strace, which misses no exec of any child.
. "$(dirname "$(readlink -f "$0")")/lib.sh"
name=key$$

# What may not be found: the key, and the key without its padding (as a pattern in a file, so that no search finds itself).
sed 's/=*$//' "$WORK/k/key" >"$WORK/k/pattern"

# The ways. Each line runs inside; $B is the bundle, $A the other arguments. Where the key passes through a file or a pipe, no
# command line has it.
# shellcheck disable=SC2016
way() {
    case $1 in
        argv)  echo 'sh $B $A -s "$(cat /mnt/k/key)"';;
        file)  echo 'sh $B $A --shared-key-file /mnt/k/key';;
        env)   echo 'OMSAGENT_SHARED_KEY=$(cat /mnt/k/key) sh $B $A';;
        stdin) echo 'sh $B $A -s - </mnt/k/key';;
    esac
}
run_way() { # WAY [PREFIX]: PREFIX is put before `sh`
    local line; line=$(way "$1")
    [ -z "${2:-}" ] || line=${line/sh \$B/$2 sh \$B}
    sh_ $name "cd /root; B=/mnt/dist/$BUNDLE_NAME; A='--upgrade -w $WS -d $DOMAIN --ca-file /mnt/k/ca.pem'; $line" </dev/null
}

# The bundle itself was given the key on its command line by the user; its children were not.
excepted() { # WAY FILE
    if [ "$1" = argv ]; then grep -vE "(sh|omsbundle[^ ]*) .*--upgrade -w $WS .* -s " "$2" || true; else cat "$2"; fi
}

sampled() {
    local way=$1
    inside $name watch /mnt/k/pattern /run/seen.$way & local watcher=$!
    sleep 0.3
    run_way "$way" >"$OUT" 2>&1 || { cat "$OUT"; return 1; }
    said 'status code 0'
    sleep 1
    sh_ $name 'pkill -TERM -f "inside watch"' || true; wait $watcher || true
    sh_ $name "cat /run/seen.$way" | grep . >"$WORK/seen" || true
    excepted "$way" "$WORK/seen" >"$WORK/unwanted"
    cat "$WORK/unwanted"; [ ! -s "$WORK/unwanted" ]
    # What it printed has no key either.
    no grep -qF -f "$WORK/k/pattern" "$OUT"
}
# Under the eyes of the sampler itself: a process that does show the key must be seen, or the case above proves nothing.
sampler_sees() {
    inside $name watch /mnt/k/pattern /run/seen.self & local watcher=$!
    sleep 0.3
    # shellcheck disable=SC2016
    sh_ $name 'sh -c "sleep 0.6" show "$(cat /mnt/k/key)"'
    sh_ $name 'pkill -TERM -f "inside watch"' || true; wait $watcher || true
    sh_ $name 'grep -q "sleep 0.6" /run/seen.self'
    # shellcheck disable=SC2016
    sh_ $name 'cp /mnt/k/key /root/planted'
    no sh_ $name '/mnt/t/inside holds /mnt/k/pattern'
    sh_ $name 'rm /root/planted'
}

nowhere() { sh_ $name '/mnt/t/inside holds /mnt/k/pattern'; }

traced() {
    local way=$1
    run_way "$way" "/mnt/tools/strace -f -qq -v -s 4096 -e trace=execve,execveat -o /run/trace.$way" >"$OUT" 2>&1 || { tail -n 40 "$OUT"; return 1; }
    said 'status code 0'
    sh_ $name "cat /run/trace.$way" >"$WORK/trace"
    [ "$(grep -c 'execve("' "$WORK/trace")" -gt 5 ]
    # Neither an argument nor (but for the ways that are one) the environment of any child.
    grep -F -f "$WORK/k/pattern" "$WORK/trace" | cut -c1-300 >"$WORK/seen" || true
    case $way in
        # sh, the stub's probe run and the exec of the runner carry what the user typed
        argv) grep -vE '^[0-9]+ +execve\("[^"]*/(sh|dash|bash|omsbundle)",' "$WORK/seen" >"$WORK/unwanted" || true;;
        # the environment is the way itself up to the runner; its children (packages' scripts, tools) get none
        env) first=$(grep -n 'omsbundle' "$WORK/trace" | tail -n 1 | cut -d: -f1)
             tail -n +$((first + 1)) "$WORK/trace" | grep -F -f "$WORK/k/pattern" | cut -c1-300 >"$WORK/unwanted" || true;;
        *) cp "$WORK/seen" "$WORK/unwanted";;
    esac
    cat "$WORK/unwanted"; [ ! -s "$WORK/unwanted" ]
}

purge() { bundle $name --purge >"$OUT" 2>&1 || { cat "$OUT"; return 1; }; }

onboarding_file() {
    # The one documented place: there before, gone after.
    sh_ $name "umask 077; { echo WORKSPACE_ID=$WS; echo SHARED_KEY=\$(cat /mnt/k/key); echo URL_TLD=$DOMAIN; echo CA_FILE=/mnt/k/ca.pem; } >/etc/omsagent-onboard.conf"
    bundle $name --upgrade >"$OUT" 2>&1 || { cat "$OUT"; return 1; }
    sh_ $name "systemctl is-active $(agent_unit)" || { cat "$OUT"; sh_ $name "journalctl -u rsyslog -u $(agent_unit) --no-pager | tail -n 30; cat /var/opt/microsoft/omsagent/$WS/log/omsagent.log"; return 1; }
    no sh_ $name 'test -e /etc/omsagent-onboard.conf'
    nowhere
}

by_admin() { # omsadmin.sh: same care
    bundle $name --upgrade >"$OUT" 2>&1
    sh_ $name "cd /root; /mnt/tools/strace -f -qq -v -s 4096 -e trace=execve,execveat -o /run/trace.admin sh /opt/microsoft/omsagent/bin/omsadmin.sh -w $WS -s - -d $DOMAIN --ca-file /mnt/k/ca.pem </mnt/k/key" >"$OUT" 2>&1 || { cat "$OUT"; return 1; }
    no sh_ $name 'grep -qaF -f /mnt/k/pattern /run/trace.admin'
    sh_ $name 'rm /run/trace.admin'
    nowhere
}

tools=$("$RIG/lib/mktools") || exit 1
start $name --bind-ro "$tools:/mnt/tools"
hub_start $name
case_ 'the sampler and the search find a key that is there' sampler_sees
for w in argv file env stdin; do
    case_ "key by $w: no command line has it while the bundle runs" sampled $w
    sh_ $name 'rm -f /run/seen.*'
    case_ "key by $w: afterwards in no process, journal, log or file" nowhere
    case_ "key by $w: purge" purge
    case_ "key by $w: no child of the bundle is started with it" traced $w
    sh_ $name 'rm -f /run/trace.*'
    purge
done
case_ 'onboarding file: used, then gone, the key with it' onboarding_file
purge
case_ 'omsadmin.sh -s -: no child has it, nothing keeps it' by_admin
