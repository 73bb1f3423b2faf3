#!/bin/bash
# people ROOT   how a run speaks to programs: the object of --json, exit codes in detail, the answers file, the log - over a
# whole life on a booted system, with the hub beside it.
. "$(dirname "$(readlink -f "$0")")/lib.sh"
name=people$$
start $name
hub_start $name
inside $name list >"$WORK/clean"

# json CODE ARGS...: the bundle with --json; its object, the only line of standard output, is kept for field PATH.
json() {
    local code=$1 rc=0; shift
    bundle $name "$@" --json >"$OUT.json" 2>"$OUT" || rc=$?
    cat "$OUT" "$OUT.json"
    equal "$rc" "$code" 'exit code'
    equal "$(wc -l <"$OUT.json")" 1 'lines on standard output'
    unsaid 'exiting with status code'
    equal "$(field exit_code)" "$code" 'exit code in the object'
}
field() { python3 -c 'import json,sys; o=json.load(open(sys.argv[1])); print(eval("o"+"".join("[%r]" % (int(k) if k.isdigit() else k) for k in sys.argv[2].split("."))))' "$OUT.json" "$1"; }
package() { python3 -c 'import json,sys; print([p[sys.argv[2]] for p in json.load(open(sys.argv[1]))["packages"] if p["name"]=="omsagent"][0])' "$OUT.json" "$1"; }


dry_run() {
    json 100 "${UPGRADE[@]}" --dry-run --detailed-exitcode
    equal "$(field changed)" False changed; equal "$(field dry_run)" True dry_run
    inside $name list >"$WORK/now"; same_file "$WORK/clean" "$WORK/now"
}
by_answers() {
    cat >"$WORK/k/rollout.toml" <<TOML
mode = "upgrade"
id = "$WS"
shared_key_file = "wrong"
domain = "$DOMAIN"
ca_file = "ca.pem"
[[host]]
match = "*"
shared_key_file = "key"
TOML
    json 100 --answers /mnt/k/rollout.toml --detailed-exitcode
    equal "$(field changed)" True changed; equal "$(field mode)" upgrade mode
    equal "$(package before)" None before; equal "$(package after)" "$(package bundled)" after
    equal "$(field workspace.id)" "$WS" workspace; equal "$(field workspace.onboarded)" True onboarded
    local log; log=$(field log)
    case $log in /var/lib/omsagent/log/bundle-*.log) ;; *) wrong "the log is $log";; esac
    equal "$(sh_ $name "stat -c '%a %U' $log")" '600 root' 'look of the log'
    sh_ $name "cat $log" >"$WORK/log"
    said '----- Installing package: omsagent' "$WORK/log"; said '(Unpacking omsagent|Updating / installing)' "$WORK/log"; said 'ended with code 100' "$WORK/log"
    no grep -qF "$(cat "$WORK/k/key")" "$WORK/log" "$OUT" "$OUT.json"
}
again() {
    local logs; logs=$(sh_ $name 'ls /var/lib/omsagent/log')
    json 0 --answers /mnt/k/rollout.toml --detailed-exitcode
    equal "$(field changed)" False changed; equal "$(field log)" None log
    equal "$(package before)" "$(package after)" versions
    equal "$(sh_ $name 'ls /var/lib/omsagent/log')" "$logs" 'logs after a run that changed nothing'
}
wrong_key() {
    json 5 --answers /mnt/k/rollout.toml --shared-key-file /mnt/k/wrong -w "$WS2"
    equal "$(field workspace.onboarded)" False onboarded
}
purge() {
    json 100 --purge --detailed-exitcode
    equal "$(field changed)" True changed; equal "$(package after)" None after; equal "$(field log)" None log
    json 0 --purge --detailed-exitcode
    equal "$(field changed)" False changed
    no sh_ $name 'ls -d /var/lib/omsagent /var/opt/microsoft/omsagent /etc/opt/microsoft/omsagent'
}

case_ '--dry-run --json --detailed-exitcode: 100, nothing changed' dry_run
case_ '--answers with an exception for this host: installed, onboarded, logged' by_answers
case_ 'the same again: 0, changed false, no log' again
case_ 'another workspace with a wrong key: 5, not onboarded' wrong_key
case_ '--purge --json: 100, then 0; no log is left' purge
