#!/bin/bash
# garbage ROOT   rubbish in every file we read, one after the other, on a host with two workspaces: each tool says something clear
# with a documented code and leaves no half state; the other workspace's agent does not even notice; the broken one can be
# onboarded again, and be removed.
# shellcheck disable=SC2016
. "$(dirname "$(readlink -f "$0")")/lib.sh"
name=garb$$
E=/etc/opt/microsoft/omsagent V=/var/opt/microsoft/omsagent O=/opt/microsoft/omsagent W=$E/$WS

in_() { sh_ $name "$1"; }
control() { on $name $O/bin/service_control "$@"; }
# The healthy one: its process, and all of its files.
other() { in_ "systemctl show -p MainPID -p NRestarts $(agent_unit "$WS2"); find $E/$WS2 -printf '%p %i %m %u %s %T@\n' | sort; sha256sum $E/$WS2/certs/*"; }
undisturbed() { other >"$WORK/other.now"; same_file "$WORK/other" "$WORK/other.now"; }
# calm: what was said is for people: no panic, not nothing, no key.
calm() {
    unsaid 'panicked|RUST_BACKTRACE|unwrap|stack backtrace'
    no grep -qF -f "$WORK/k/pattern" "$OUT"
}
one_of() { case " $1 " in *" $2 "*) ;; *) sed 's/^/  > /' "$OUT"; wrong "exit $2, wanted one of $1: $3";; esac; }
try() { # CODES WHAT COMMAND...
    local codes=$1 what=$2 got=0 t0=$SECONDS; shift 2
    "$@" >"$OUT.out" 2>"$OUT.err" </dev/null || got=$?
    [ $((SECONDS - t0)) -lt 60 ] || wrong "$what took $((SECONDS - t0)) s"
    cat "$OUT.out" "$OUT.err" >"$OUT"
    one_of "$codes" $got "$what"
    calm
    case $what in is-running* | -o*) ;; *) [ "$got" = 0 ] || [ -s "$OUT" ] || wrong "$what: exit $got, and not a word";; esac
    printf '%s: %s\n' "$what" $got; sed 's/^/   . /' "$OUT" | cut -c1-220 | head -n 6
}
json() { python3 -c 'import json,sys; json.load(open(sys.argv[1]))' "$OUT.out"; }

# row "what" PLANT FINDINGS ONBOARD-CODES RESTART-CODES: PLANT is sh inside; one of FINDINGS (or `-`) must be the doctor's.
# ROWS=regex: only the rows of that name.
row() { ! grep -qE -- "${ROWS:-.}" <<<"$1" || case_ "$1" garbage "$@"; }
plant() { in_ "set -e; cd $W; $1"; }
garbage() {
    local what=$1 how=$2 findings=$3 onboard=$4 restart=$5 got
    in_ 'systemctl reset-failed'
    [ ! -e "$WORK/dirty" ] || heal
    : >"$WORK/dirty"
    plant "$how"
    try 0 '-l' admin $name -l
    said "$WS2    Status: Onboarded.OMSAgent Running.$"
    equal "$(grep -c . "$OUT.out")" 2 'lines of -l'
    try '0 1' 'status --json' on $name $O/bin/omsagent status --json; json
    # Without the network: a broken workspace would be waited for.
    try '0 1 2' 'doctor --json' on $name $O/bin/omsagent doctor --json --install; json
    if [ "$findings" != - ]; then
        python3 -c 'import json,sys; print(*sorted({f["id"] for f in json.load(open(sys.argv[1]))["findings"]}))' "$OUT.out" >"$WORK/ids"
        grep -qE -- "(^| )($findings)" "$WORK/ids" || wrong "doctor did not find $findings: $(cat "$WORK/ids")"
    fi
    undisturbed
    try "$restart" 'restart' control restart "$WS"
    undisturbed
    try '0 1' 'is-running' control is-running "$WS"
    try '0 1 30' '-R' admin $name -R
    try '0 1 30' '-U' admin $name -U
    undisturbed
    try "$onboard" 'onboard again' admin $name -w "$WS" -s KEY -d "$DOMAIN" --ca-file /mnt/k/ca2.pem
    undisturbed
    # As it was found, then removed: nothing of it stays, and nothing else goes.
    in_ "test -d $W" && plant "$how" || true
    try "0" '-x' admin $name -x "$WS"
    in_ "! test -e $W && ! test -L $W && ! test -e $V/$WS && test -s /etc/shadow && test -s /root/outside && ! test -e /etc/systemd/system/$(agent_unit)"
    undisturbed
    afresh
    rm "$WORK/dirty"
}
# After a row that failed: what it left goes by hand.
heal() { in_ "systemctl stop $(agent_unit); cd /; rm -rf $W $V/$WS" || true; afresh; other >"$WORK/other"; }
afresh() {
    in_ "rm -rf $E/proxy.conf $E/ca.pem; cp /mnt/k/ca.pem $E/ca.pem"
    exits 0 admin $name -w "$WS" -s KEY -d "$DOMAIN" --ca-file /mnt/k/ca.pem
    exits 1 control is-running "$WS"
}

# What is no workspace is never taken for one: not listed, not started, not removed.
strange_names() {
    local upper=${WS2^^} strange
    in_ "mkdir -p $E/state/conf $E/..x/conf $E/-rf/conf $E/sysconf $E/SCOM/conf '$E/two words/conf' && ln -s /root $E/33333333-3333-3333-3333-333333333333 &&
        echo x >$E/44444444-4444-4444-4444-444444444444 && ln -s /etc $E/scom && mkdir \"$E/\$(printf 'a\nb')\" && find $E -maxdepth 2 | sort >/run/strange"
    try 0 '-l' admin $name -l; equal "$(grep -c . "$OUT.out")" 2 'lines of -l'
    try '0 1' 'status --json' on $name $O/bin/omsagent status --json; json
    equal "$(python3 -c 'import json,sys; print(len(json.load(open(sys.argv[1]))["workspaces"]))' "$OUT.out")" 2 'workspaces in status'
    for strange in state ..x ../x ../../scx . .. / '' -rf SCOM 'two words' "$E" 33333333-3333-3333-3333-333333333333 44444444-4444-4444-4444-444444444444; do
        try '0 2' "-x '$strange'" admin $name -x "$strange"
        # An empty word is none: all are meant, or the primary one.
        case $strange in
            '') try 1 "is-running ''" control is-running '';;
            *) try '1 72' "restart '$strange'" control restart "$strange"; try 0 "is-running '$strange'" control is-running "$strange";;
        esac
        case $strange in '') ;; *) try '3 7' "-w '$strange'" admin $name -w "$strange" -s KEY -d "$DOMAIN:1" --ca-file /mnt/k/ca.pem;; esac
    done
    in_ "find $E -maxdepth 2 | sort | diff /run/strange -; test -s /etc/shadow && test -s /root/outside && test -d /opt/microsoft"
    undisturbed
    # The same GUID in other letters is the same workspace.
    try 0 'in capitals' admin $name -w "$upper" -s KEY -d "$DOMAIN" -m Second
    said "^Workspace $WS2 already onboarded and agent is running\.$"
    in_ "! test -e $E/$upper && rm -r $E/state $E/..x $E/-rf $E/SCOM '$E/two words' $E/33333333-* $E/44444444-* $E/scom \"$E/\$(printf 'a\nb')\""
    undisturbed
}

# Files of the host, whichever workspace.
host_files() {
    local how
    for how in ': >F' 'gzip -nc /bin/ls | head -c 3000 >F' 'mkdir F' "printf 'WORKSPACE_ID=$WS' >F" "printf 'WORKSPACE_ID=\\nSHARED_KEY=\\n' >F" 'ln -s /etc/shadow F' 'mkfifo F' 'head -c 10000000 /dev/zero >F'; do
        in_ "F=/etc/omsagent-onboard.conf; rm -rf \$F; ${how//F/\$F}; [ -p \$F ] || [ -h \$F ] || chmod 600 \$F"
        try '2 3' "no words, omsagent-onboard.conf: $how" admin $name
        in_ '[ -e /etc/omsagent-onboard.conf ] || [ -h /etc/omsagent-onboard.conf ]'
        undisturbed
    done
    in_ 'rm -rf /etc/omsagent-onboard.conf; test -s /etc/shadow; mkdir -p /etc/opt/omi/conf'
    for how in ': >F' 'gzip -nc /bin/ls | head -c 3000 >F' 'mkdir F' 'mkfifo F' 'head -c 10000000 /dev/zero >F'; do
        in_ "F=/etc/opt/omi/conf/omiserver.conf; rm -rf \$F; ${how//F/\$F}"
        try '0 1 2 30' "-o, omiserver.conf: $how" admin $name -o
        in_ "F=$E/sysconf/installinfo.txt; [ -e /root/installinfo ] || mv \$F /root/installinfo; rm -rf \$F; ${how//F/\$F}"
        try 0 "-l, installinfo.txt: $how" admin $name -l
        try '0 1' 'status --json' on $name $O/bin/omsagent status --json; json
        try '0 1 2' 'doctor --json' on $name $O/bin/omsagent doctor --json --install; json
        try '0 1' 'restart' control restart "$WS"
        undisturbed
        in_ "F=$E/sysconf/omsagent.d/heartbeat.conf; [ -e /root/heartbeat ] || mv \$F /root/heartbeat; rm -rf \$F; ${how//F/\$F}"
        try '0 30' "-U, heartbeat.conf: $how" admin $name -U
        undisturbed
    done
    in_ "rm -rf /etc/opt/omi $E/sysconf/installinfo.txt $E/sysconf/omsagent.d/heartbeat.conf; mv /root/installinfo $E/sysconf/installinfo.txt; mv /root/heartbeat $E/sysconf/omsagent.d/heartbeat.conf"
    exits 0 admin $name -U
    exits 0 control restart "$WS"
    undisturbed
}

conf() { row "omsadmin.conf: $1" "rm -rf conf/omsadmin.conf; $2" "${3:-settings-broken|file-owner}" "${4:-0}" "${5:-0 1}"; }
cert() { row "oms.crt: $1" "rm -rf certs/oms.crt; $2" "${3:-certificate-}" "${4:-0}" "${5:-0 1}"; }
key() { row "oms.key: $1" "rm -rf certs/oms.key; $2" "${3:-key-missing|certificate-}" "${4:-0}" "${5:-0 1}"; }

sed 's/=*$//' "$WORK/k/key" >"$WORK/k/pattern"
openssl req -x509 -newkey rsa:2048 -nodes -days 90 -subj "/CN=$WS" -keyout "$WORK/k/foreign.key" -out "$WORK/k/foreign.crt" 2>/dev/null
fake=$(find /usr/lib -name libfaketime.so.1 | sed -n 1p)
LD_PRELOAD=$fake FAKETIME=-400d openssl req -x509 -newkey rsa:2048 -nodes -days 30 -subj "/CN=$WS" -keyout "$WORK/k/old.key" -out "$WORK/k/old.crt" 2>/dev/null
start $name
hub_start $name
{ cat "$WORK/k/ca.pem"; echo '# the same'; } >"$WORK/k/ca2.pem"
bundle $name "${UPGRADE[@]}" >"$WORK/install" 2>&1 || { cat "$WORK/install"; stage_broken 'no onboarding'; }
exits 0 admin $name -w "$WS2" -s KEY -d "$DOMAIN" -m Second || stage_broken 'no second onboarding'
in_ 'echo outside >/root/outside; chmod 600 /root/outside'
sleep 1; other >"$WORK/other"

conf 'empty' ': >conf/omsadmin.conf'
conf 'half-written' "printf 'WORKSPACE_ID=$WS\nAGENT_GUID=0b6c' >conf/omsadmin.conf; chmod 644 conf/omsadmin.conf"
conf 'binary' 'gzip -nc /bin/ls | head -c 4096 >conf/omsadmin.conf; chmod 644 conf/omsadmin.conf'
conf '10 MB' "{ echo WORKSPACE_ID=$WS; head -c 10000000 /dev/zero | tr '\0' x; } >conf/omsadmin.conf; chmod 644 conf/omsadmin.conf"
conf 'a folder' 'mkdir conf/omsadmin.conf; echo x >conf/omsadmin.conf/x' 'settings-broken|file-owner' '0 30'
conf 'unreadable' "cp /dev/null conf/omsadmin.conf; printf 'WORKSPACE_ID=$WS\n' >conf/omsadmin.conf; chmod 000 conf/omsadmin.conf"
conf 'a link to nothing' 'ln -s /nowhere/x conf/omsadmin.conf'
conf 'a link to /etc/shadow' 'ln -s /etc/shadow conf/omsadmin.conf'
conf 'a pipe' 'mkfifo conf/omsadmin.conf' 'settings-broken|file-owner' '0 30'
conf 'missing' ':'
conf 'of another workspace' "sed 's/$WS2/$WS2/' $E/$WS2/conf/omsadmin.conf >conf/omsadmin.conf; chown omsagent conf/omsadmin.conf"
cert 'missing' ':'
cert 'empty' ': >certs/oms.crt'
cert 'no PEM' 'gzip -nc /bin/ls | head -c 900 >certs/oms.crt; chown omsagent certs/oms.crt'
cert 'of another key' 'cp /mnt/k/foreign.crt certs/oms.crt; chown omsagent certs/oms.crt'
cert 'expired, with its key' 'cp /mnt/k/old.crt certs/oms.crt; cp /mnt/k/old.key certs/oms.key; chown omsagent certs/*'
cert 'a folder' 'mkdir certs/oms.crt' 'certificate-|file-owner' '0 30'
cert 'a link to /etc/shadow' 'ln -s /etc/shadow certs/oms.crt'
key 'missing' ':'
key 'empty' ': >certs/oms.key'
key 'rubbish' 'echo -----BEGIN RSA PRIVATE KEY----- >certs/oms.key; gzip -nc /bin/ls | head -c 900 >>certs/oms.key; chown omsagent certs/oms.key'
key 'of another certificate' 'cp /mnt/k/foreign.key certs/oms.key; chown omsagent certs/oms.key'
key '10 MB' 'head -c 10000000 /dev/zero >certs/oms.key; chown omsagent certs/oms.key'
row 'certs: a file' 'rm -rf certs; echo x >certs' 'folder-|certificate-' '0 30' '0 1'
row 'certs: a link elsewhere' 'rm -rf certs; ln -s /root certs' 'folder-|certificate-' '0 30' '0 1'
row 'certs: unreadable' 'chown root:root certs; chmod 000 certs' 'folder-|file-owner|certificate-' 0 '0 1'
row 'conf: missing' 'rm -rf conf' 'folder-|settings-broken|config-missing' 0 '0 1'
row 'conf: a link elsewhere' 'rm -rf conf; ln -s /root conf' 'folder-|settings-broken' '0 30' '0 1'
row 'omsagent.conf: binary' 'gzip -nc /bin/ls | head -c 4096 >conf/omsagent.conf' 'config-mistake|config-ignored' '0 30' '0 1'
row 'omsagent.conf: a folder' 'rm conf/omsagent.conf; mkdir conf/omsagent.conf' 'config-mistake' '0 30' '0 1'
row 'omsagent.conf: unfinished' "printf '<source>\n  type syslog\n' >conf/omsagent.conf" 'config-mistake' 30 '0 1'
row 'omsagent.d: a fragment of rubbish' 'gzip -nc /bin/ls | head -c 300 >conf/omsagent.d/zz.conf' 'config-mistake|config-ignored' '0 30' '0 1'
row 'omsagent.d: includes itself' "echo '@include zz.conf' >conf/omsagent.d/zz.conf" 'config-mistake' 30 '0 1'
row 'omsagent.d: a file' 'rm -rf conf/omsagent.d; echo x >conf/omsagent.d' - '0 30' '0 1'
row 'the marker: a folder, then rubbish' 'mkdir conf/.multihoming_marker' - '0 30' '0 1'
row 'syslog.selection: rubbish' 'gzip -nc /bin/ls | head -c 300 >conf/syslog.selection' - '0 30' '0 1'
row 'proxy.conf: rubbish' "gzip -nc /bin/ls | head -c 300 >$E/proxy.conf; chown omsagent $E/proxy.conf; chmod 600 $E/proxy.conf" 'proxy-mistake' 4 '0 1'
row 'ca.pem: rubbish' "gzip -nc /bin/ls | head -c 300 >$E/ca.pem" 'ca-unusable' 0 '0 1'
row 'ca.pem: a folder' "rm $E/ca.pem; mkdir $E/ca.pem" 'ca-unusable' '0 30' '0 1'
row 'state: a file' "systemctl stop $(agent_unit); rm -rf $V/$WS/state; echo x >$V/$WS/state" 'folder-' '0 30' '0 1'
row 'state: a link elsewhere' "systemctl stop $(agent_unit); rm -rf $V/$WS/state; ln -s /root $V/$WS/state" 'folder-' '0 30' '0 1'
row 'VAR/<id>: missing' "systemctl stop $(agent_unit); rm -rf $V/$WS" 'folder-' 0 '0 1'
row 'VAR/<id>: a link elsewhere' "systemctl stop $(agent_unit); rm -rf $V/$WS; ln -s /root $V/$WS" 'folder-' '0 30' '0 1'
row 'a queue: a file' "systemctl stop $(agent_unit); for f in $V/$WS/state/*; do rm -rf \$f; echo x >\$f; chown omsagent \$f; done" - 30 '0 1'
row 'a queue of rubbish' "systemctl stop $(agent_unit); gzip -nc /bin/ls | head -c 5000 >/run/rubbish; find $V/$WS/state -type f -exec cp /run/rubbish {} \\;" - 0 '0 1'
case_ 'names that are no workspace' strange_names
case_ 'files of the host' host_files
