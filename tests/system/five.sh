#!/bin/bash
# five ROOT   five workspaces on one host: a primary one, two secondary ones with markers (one of them at a hub of its own), LAD
# and scom. Each is started, stopped and removed by itself; each gets its own lines; a hub that is down delays nobody else.
. "$(dirname "$(readlink -f "$0")")/lib.sh"
name=five$$
ETC=/etc/opt/microsoft/omsagent VAR=/var/opt/microsoft/omsagent OPT=/opt/microsoft/omsagent
WS3=cccccccc-bbbb-4ccc-8ddd-eeeeeeeeeeee
HUB2=hub2.test HUB2_DATA=$WORK/hub2
RUNS='Onboarded(OMSAgent Running)'
REGISTERED='Warning(OMSAgent Registered, Not Running)'
SAVED='Saved(OMSAgent Not Registered, Workspace Configuration Saved)'
listed() { admin $name -l >"$WORK/list"; printf '%s\n' "$@" >"$WORK/list.wanted"; same_file "$WORK/list.wanted" "$WORK/list"; }
control() { on $name "$OPT/bin/service_control" "$@"; }
pid_of() { sh_ $name "cat $VAR/$1/run/omsagent.pid 2>/dev/null || true"; }
pids() { local w; for w in "$@"; do echo "$w $(pid_of "$w")"; done; }
# at HUB-DATA WORKSPACE TEXT SECONDS: the text is there, of that workspace.
query_at() { hub query --data "$1" "SELECT SyslogMessage FROM Syslog WHERE WorkspaceId = '$2' AND SyslogMessage LIKE '%$3%'" 2>/dev/null; }
at() { local i; for i in $(seq 1 $(($4 * 5))); do ! query_at "$1" "$2" "$3" | grep -qF -- "$3" || return 0; sleep 0.2; done; wrong "\`$3\` did not come to $2 in $4 s"; }
not_at() { ! query_at "$1" "$2" "$3" | grep -F -- "$3" || wrong "\`$3\` came to $2"; }

hub2_start() {
    "$RIG/netexec" $name -- "$HUB_BINARY" hub serve --data "$HUB2_DATA" --listen 127.0.0.1:8443 --domain $HUB2 >>"$WORK/hub2.log" 2>&1 &
    echo $! >"$WORK/hub2.pid"
    local i; for i in $(seq 1 100); do ! "$RIG/netexec" $name -- ss -Hltn 'sport = :8443' | grep -q . || return 0; sleep 0.1; done
    cat "$WORK/hub2.log"; return 1
}
hub2_stop() {
    local pid; pid=$(cat "$WORK/hub2.pid" 2>/dev/null) || return 0
    rm -f "$WORK/hub2.pid"; kill "$pid" 2>/dev/null || return 0
    for _ in $(seq 1 100); do kill -0 "$pid" 2>/dev/null || return 0; sleep 0.05; done
    kill -KILL "$pid" 2>/dev/null || true
}

onboard_five() {
    exits 0 bundle $name --upgrade
    exits 0 admin $name -w "$WS" -s KEY -d "$DOMAIN" --ca-file /mnt/k/both.pem
    exits 0 admin $name -w "$WS2" -s KEY -d "$DOMAIN" -m Second
    exits 0 admin $name -w "$WS3" -s KEY -d "$HUB2:8443" -m 'Third one'
    sh_ $name 'mkdir -p /etc/opt/omi/conf /opt/omi/bin; printf "httpsport=0\n" >/etc/opt/omi/conf/omiserver.conf'
    exits 0 admin $name -w scom
    exits 0 admin $name -w LAD
    listed "Primary Workspace: $WS    Status: $RUNS" "Workspace(Second): $WS2    Status: $RUNS" "Workspace(Third one): $WS3    Status: $RUNS" \
        "Workspace(SCOM Workspace): scom    Status: $SAVED"
    exits 0 control start scom
    exits 0 control start LAD
    listed "Primary Workspace: $WS    Status: $RUNS" "Workspace(Second): $WS2    Status: $RUNS" "Workspace(Third one): $WS3    Status: $RUNS" \
        "Workspace(SCOM Workspace): scom    Status: $RUNS"
    exits 1 control is-running LAD
}
each_its_own() {
    # 25226 is for security events (CEF), whoever comes first.
    local w n ports=(25224 25225 25227)
    for w in "$WS" "$WS2" "$WS3"; do
        n=${ports[0]}; ports=("${ports[@]:1}")
        sh_ $name "grep -q '^  port $n$' $ETC/$w/conf/omsagent.d/syslog.conf && ss -Hlnup 'sport = :$n' | grep -q 'pid=$(pid_of "$w"),'"
        sh_ $name "grep -q '@127.0.0.1:$n$\|port($n)' /etc/rsyslog.d/95-omsagent.conf /etc/syslog-ng/conf.d/95-omsagent.conf 2>/dev/null; ls -d $VAR/$w/state/*.queue >/dev/null"
    done
    for w in "$WS" "$WS2" "$WS3" scom LAD; do
        sh_ $name "systemctl is-active omsagent-$w.service && systemctl is-enabled omsagent-$w.service && test -s /etc/logrotate.d/omsagent-$w && test -L $OPT/bin/omsagent-$w"
    done
    equal "$(pids "$WS" "$WS2" "$WS3" scom LAD | awk '{print $2}' | sort -u | grep -c .)" 5 'different processes'
    equal "$(sh_ $name "readlink $ETC/conf")" "$ETC/$WS/conf" 'the primary link'
}
to_each() {
    local m="each-$$-$RANDOM"
    sh_ $name "logger -p auth.warning $m"
    at "$HUB_DATA" "$WS" "$m" 20; at "$HUB_DATA" "$WS2" "$m" 10; at "$HUB2_DATA" "$WS3" "$m" 10
    # By choice: the second gets something of its own only.
    exits 0 on $name $OPT/bin/configure_syslog.sh select "$WS2" local5.info
    sh_ $name "logger -p local5.info $m-only; logger -p auth.warning $m-others"
    at "$HUB_DATA" "$WS2" "$m-only" 20; at "$HUB_DATA" "$WS" "$m-others" 10; at "$HUB2_DATA" "$WS3" "$m-others" 10
    not_at "$HUB_DATA" "$WS" "$m-only"; not_at "$HUB_DATA" "$WS2" "$m-others"
    exits 0 on $name $OPT/bin/configure_syslog.sh select "$WS2" default
}
by_sockets() {
    local m="sock-$$-$RANDOM" w
    for w in $WS $WS2; do exits 0 on $name $OPT/bin/configure_syslog.sh transport unix "$w"; done
    # rsyslog takes its module once only, whichever workspace needs it.
    sh_ $name "if command -v rsyslogd >/dev/null; then rsyslogd -N1 && grep -c omuxsock: /etc/rsyslog.d/95-omsagent.conf | grep -qx 2; else syslog-ng -s; fi"
    sh_ $name "logger -p auth.warning $m"
    at "$HUB_DATA" "$WS" "$m" 20; at "$HUB_DATA" "$WS2" "$m" 10; at "$HUB2_DATA" "$WS3" "$m" 10
    exits 0 on $name $OPT/bin/configure_syslog.sh transport udp "$WS"
    sh_ $name "if command -v rsyslogd >/dev/null; then rsyslogd -N1; else syslog-ng -s; fi; logger -p auth.warning $m-left"
    at "$HUB_DATA" "$WS" "$m-left" 20; at "$HUB_DATA" "$WS2" "$m-left" 10
    exits 0 on $name $OPT/bin/configure_syslog.sh transport udp "$WS2"
}
one_hub_down() {
    local m="down-$$-$RANDOM" i t0
    hub2_stop
    for i in 1 2 3; do
        sh_ $name "logger -p auth.warning $m-$i"
        t0=$SECONDS
        at "$HUB_DATA" "$WS" "$m-$i" 15; at "$HUB_DATA" "$WS2" "$m-$i" 15
        echo "$i: $((SECONDS - t0)) s"
    done
    hub2_start
    for i in 1 2 3; do at "$HUB2_DATA" "$WS3" "$m-$i" 90; done
}
apart() {
    local w o before
    for w in "$WS" "$WS2" "$WS3" scom LAD; do
        o=(); for x in "$WS" "$WS2" "$WS3" scom LAD; do [ "$x" = "$w" ] || o+=("$x"); done
        before=$(pids "${o[@]}")
        exits 0 control stop "$w"; exits 0 control is-running "$w"
        exits 0 control start "$w"; exits 1 control is-running "$w"
        exits 0 control restart "$w"; exits 1 control is-running "$w"
        equal "$(pids "${o[@]}")" "$before" "the others' processes after stop, start, restart of $w"
    done
    exits 0 control stop
    listed "Primary Workspace: $WS    Status: $REGISTERED" "Workspace(Second): $WS2    Status: $REGISTERED" "Workspace(Third one): $WS3    Status: $REGISTERED" \
        "Workspace(SCOM Workspace): scom    Status: $REGISTERED"
    exits 0 control is-running LAD
    exits 0 control start
    exits 1 control is-running LAD; exits 1 control is-running "$WS3"
}
all_off_and_on() {
    local w
    exits 0 control disable
    for w in "$WS" "$WS2" "$WS3" scom LAD; do no sh_ $name "systemctl is-enabled omsagent-$w.service"; exits 0 control is-running "$w"; done
    exits 0 control enable
    exits 0 control restart
    for w in "$WS" "$WS2" "$WS3" scom LAD; do sh_ $name "systemctl is-enabled omsagent-$w.service"; exits 1 control is-running "$w"; done
}
broken_one() {
    # One whose configuration cannot be read is counted; the others run on.
    sh_ $name "cp $ETC/$WS3/conf/omsagent.conf /root/keep; echo '<match' >$ETC/$WS3/conf/omsagent.conf"
    exits 1 control restart
    said "^ERROR:  restart_omsagent failed with result '1' on workspace $WS3\.$" "$OUT.err"
    exits 1 control is-running "$WS"; exits 1 control is-running "$WS2"; exits 1 control is-running scom
    sh_ $name "cat /root/keep >$ETC/$WS3/conf/omsagent.conf"
    exits 0 control restart "$WS3"
}
another_primary() {
    exits 0 admin $name -w "$WS2" -s KEY -d "$DOMAIN"
    listed "Primary Workspace: $WS2    Status: $RUNS" "Workspace: $WS    Status: $RUNS" "Workspace(Third one): $WS3    Status: $RUNS" \
        "Workspace(SCOM Workspace): scom    Status: $RUNS"
    equal "$(sh_ $name "readlink $VAR/log")" "$VAR/$WS2/log"
    # It still is when the package went and came back, though another one's name comes first.
    exits 0 bundle $name --remove
    exits 0 bundle $name --upgrade
    listed "Primary Workspace: $WS2    Status: $RUNS" "Workspace: $WS    Status: $RUNS" "Workspace(Third one): $WS3    Status: $RUNS" \
        "Workspace(SCOM Workspace): scom    Status: $SAVED"
    exits 0 control start scom; exits 0 control start LAD
    exits 0 admin $name -w "$WS" -s KEY -d "$DOMAIN"
    exits 0 admin $name -w "$WS2" -s KEY -d "$DOMAIN" -m Second
    listed "Primary Workspace: $WS    Status: $RUNS" "Workspace(Second): $WS2    Status: $RUNS" "Workspace(Third one): $WS3    Status: $RUNS" \
        "Workspace(SCOM Workspace): scom    Status: $RUNS"
}
# Everything of a workspace that must not change when another one goes.
of() { local w; for w in "$@"; do sh_ $name "find $ETC/$w -printf '%i %m %u:%g %T@ %p %l\n' | sort -k5; cat /etc/logrotate.d/omsagent-$w /usr/lib/systemd/system/omsagent-$w.service 2>/dev/null; ls -l $OPT/bin/omsagent-$w"; pids "$w"; done; }
removed_one_by_one() {
    local left=("$WS" "$WS2" "$WS3" LAD scom) w m="gone-$$-$RANDOM"
    for w in "$WS2" scom "$WS" LAD "$WS3"; do
        local rest=() x; for x in "${left[@]}"; do [ "$x" = "$w" ] || rest+=("$x"); done
        of "${rest[@]}" >"$WORK/of.before"
        exits 0 admin $name -x "$w"
        of "${rest[@]}" >"$WORK/of.after"
        same_file "$WORK/of.before" "$WORK/of.after"
        sh_ $name "! test -e $ETC/$w && ! test -e $VAR/$w && ! ls /etc/logrotate.d/omsagent-$w /usr/lib/systemd/system/omsagent-$w.service $OPT/bin/omsagent-$w 2>/dev/null"
        no sh_ $name "grep -rs '$w' /etc/rsyslog.d /etc/syslog-ng"
        left=(${rest[@]+"${rest[@]}"})
        # Those that are left still get what is theirs.
        sh_ $name "logger -p auth.warning $m-$w"
        for x in ${rest[@]+"${rest[@]}"}; do
            case $x in "$WS3") at "$HUB2_DATA" "$x" "$m-$w" 20;; LAD | scom) ;; *) at "$HUB_DATA" "$x" "$m-$w" 20;; esac
        done
    done
    listed 'No Workspace'
    no sh_ $name "ls -d $ETC/conf $ETC/certs $VAR/run $VAR/log /usr/lib/systemd/system/omsagent* /etc/systemd/system/omsagent* 2>/dev/null"
    no sh_ $name 'pgrep -u omsagent'
}

start $name --host "$WS3.oms.$HUB2=127.0.0.1" --host "$WS3.ods.$HUB2=127.0.0.1"
hub_make
hub workspace add --data "$HUB2_DATA" --id "$WS3" --shared-key-file "$WORK/k/key" >/dev/null || stage_broken 'no second hub'
hub_start $name
hub2_start || stage_broken 'the second hub does not serve'
cat "$HUB_DATA/ca/ca.pem" "$HUB2_DATA/ca/ca.pem" >"$WORK/k/both.pem"
trap 'hub2_stop; finish' EXIT
case_ 'five workspaces, listed in order' onboard_five
case_ 'each has its port, unit, queue, rotation, process' each_its_own
case_ 'lines to each; to one by choice' to_each
case_ 'two by sockets' by_sockets
case_ 'one hub down delays nobody else' one_hub_down
case_ 'started, stopped, restarted one by one' apart
case_ 'all disabled and enabled again, LAD too' all_off_and_on
case_ 'a broken one is counted, the others run' broken_one
case_ 'another primary workspace, and back' another_primary
case_ 'removed one by one, the rest untouched' removed_one_by_one
