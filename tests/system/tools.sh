#!/bin/bash
# tools ROOT   the rows of bundle.md 1.6-1.9 and 6 that need an installed system: what is typed, the host as it is ->
# exit code, stream, line, files. Those that need none are in `cargo test --test tools`.
. "$(dirname "$(readlink -f "$0")")/lib.sh"
name=tools$$
ETC=/etc/opt/microsoft/omsagent VAR=/var/opt/microsoft/omsagent OPT=/opt/microsoft/omsagent
WS3=cccccccc-bbbb-4ccc-8ddd-eeeeeeeeeeee
# row CODE out|err|no LINE-PATTERN TOOL WORDS...: KEY as in admin.
row() {
    local code=$1 stream=$2 line=$3 tool=$4; shift 4
    case $tool in
        admin) exits "$code" admin $name "$@";;
        identity) exits "$code" on $name "$OPT/bin/omsagent" identity "$@";;
        *) exits "$code" on $name "$OPT/bin/$tool" "$@";;
    esac
    case $stream in no) ;; *) said "$line" "$OUT.$stream";; esac
    unsaid '^-e ' "$OUT"
    echo row >>"$WORK/rows"
}
listed() { admin $name -l >"$WORK/list"; printf '%s\n' "$@" >"$WORK/list.wanted"; same_file "$WORK/list.wanted" "$WORK/list"; }
RUNS='Onboarded(OMSAgent Running)'
REGISTERED='Warning(OMSAgent Registered, Not Running)'
SAVED='Saved(OMSAgent Not Registered, Workspace Configuration Saved)'
FAILURE='Failure(Agent Not Onboarded, No Workspace Configuration Present)'

install_only() {
    exits 0 bundle $name --upgrade
    listed 'No Workspace'
    row 2 out '^Maintenance tool for omsagent' admin
    # Both ways to call it, and traced.
    exits 0 sh_ $name "$OPT/bin/omsadmin.sh -l"; said '^No Workspace$' "$OUT.out"
    exits 0 sh_ $name "cd $OPT/bin && sh -x omsadmin.sh -l"; said '^No Workspace$' "$OUT.out"
}
as_omsagent() {
    exits 0 sh_ $name "runuser -u omsagent -- $OPT/bin/omsadmin.sh -l"; said '^No Workspace$' "$OUT.out"
    exits 1 sh_ $name "runuser -u omsagent -- $OPT/bin/omsadmin.sh -X"; said 'Only root can change workspaces' "$OUT.out"
    exits 1 sh_ $name "runuser -u nobody -- $OPT/bin/omsadmin.sh -l"; said 'must be run as root or as the omsagent user' "$OUT.out"
    exits 77 sh_ $name "runuser -u nobody -- $OPT/bin/service_control restart"; said 'Must have root privileges for this operation' "$OUT.err"
}
four_states() {
    # Nothing but folders: everything that a hand can make.
    sh_ $name "mkdir -p $ETC/$WS/conf"
    listed "Workspace: $WS    Status: $FAILURE"
    sh_ $name "touch $ETC/$WS/conf/omsadmin.conf"
    listed "Workspace: $WS    Status: $SAVED"
    sh_ $name "touch $ETC/$WS/conf/.service_registered"
    listed "Workspace: $WS    Status: $REGISTERED"
    sh_ $name "printf 'Azure Stuff\n' >$ETC/$WS/conf/.multihoming_marker; mkdir -p $ETC/scom/conf $ETC/LAD/conf $ETC/state/$WS2/conf $ETC/$WS3"
    listed "Workspace(Azure Stuff): $WS    Status: $REGISTERED" "Workspace: $WS3    Status: $FAILURE" "Workspace: scom    Status: $FAILURE"
    sh_ $name "ln -s $ETC/$WS3/conf $ETC/conf"
    listed "Primary Workspace: $WS3    Status: $FAILURE" "Workspace(Azure Stuff): $WS    Status: $REGISTERED" "Workspace: scom    Status: $FAILURE"
    row 0 no '' service_control is-running "$WS"
    row 0 no '' service_control is-running
    row 0 out "Workspace $WS3 has created a folder $ETC/$WS3, but is missing certificates or configuration; please onboard" admin -R
    row 0 out "info.Workspace $WS3 has no folder" admin -U
    row 0 out "^error.Workspace $WS3 doesn.t exist$" admin -x "$WS3"
    row 0 out "^info.Cleanup the folders$" admin -x "$WS3"
    sh_ $name "! test -e $ETC/$WS3 && ! test -L $ETC/conf && test -d $ETC/$WS"
    row 0 out "^info.Disable workspace: LAD$" admin -X
    sh_ $name "! test -e $ETC/scom && ! test -e $ETC/LAD && test -d $ETC/state/$WS2 && rm -r $ETC/state"
    listed 'No Workspace'
}
removal_stays_inside() {
    sh_ $name "mkdir -p /opt/canary $ETC/sysconf; touch /opt/canary/x"
    local before word; before=$(sh_ $name "find $ETC $OPT /opt/canary | sort | sha256sum")
    for word in sysconf ../../../../opt/canary ../omsagent state . .. / '' "$ETC/sysconf" "$WS/.." 'scom/../sysconf'; do
        row 0 no '' admin -x "$word"
    done
    equal "$(sh_ $name "find $ETC $OPT /opt/canary | sort | sha256sum")" "$before" 'files after -x of what is no workspace'
}
proxy_alone() {
    row 0 out "^info.Created proxy configuration: $ETC/proxy.conf$" admin -p 'user:pa@proxy.test:3128'
    equal "$(sh_ $name "cat $ETC/proxy.conf; stat -c ' %a %U:%G' $ETC/proxy.conf")" 'user:pa@proxy.test:3128 600 omsagent:omiusers'
    row 4 out '^error' admin -p 'ftp://proxy'
    row 4 out 'A proxy user \(-u\) needs a proxy' admin -u me
    row 2 err 'is asked for at a terminal' admin -u me -p proxy:1
    equal "$(sh_ $name "cat $ETC/proxy.conf")" 'user:pa@proxy.test:3128' 'proxy.conf after refusals'
    sh_ $name "rm $ETC/proxy.conf; mkdir -p $ETC/conf; printf 'http://old:1' >$ETC/conf/proxy.conf"
    row 0 out 'Moving proxy configuration from file' admin -U
    equal "$(sh_ $name "cat $ETC/proxy.conf")" 'http://old:1'
    sh_ $name "printf 'http://new:1' >$ETC/proxy.conf"
    row 0 no '' admin -U
    equal "$(sh_ $name "cat $ETC/proxy.conf")" 'http://new:1' 'proxy.conf, which is newer'
    sh_ $name "rm -r $ETC/proxy.conf $ETC/conf"
}
onboard_row() {
    row 0 out '^info.Onboarding success$' admin -w "$WS" -s KEY -d "$DOMAIN" --ca-file /mnt/k/ca.pem -a None -v
    said "^Workspace ID:  $WS$" "$OUT.out"; said '^Shared key:    ....\*+$' "$OUT.out"
    said '<AuthenticationCertificate>\*+</AuthenticationCertificate>' "$OUT.out"
    said '^info.Generating certificate' "$OUT.out"; said '^info.Agent GUID is ' "$OUT.out"
    unsaid '[Ee][Rr][Rr][Oo][Rr]' "$OUT"
    listed "Primary Workspace: $WS    Status: $RUNS"
    row 1 no '' service_control is-running
    row 1 no '' service_control is-running "$WS"
    row 0 no '' service_control is-running "$WS2"
    # The same again: nothing to do; another resource id alone does not ask the service.
    row 0 out "^Workspace $WS already onboarded and agent is running\.$" admin -w "$WS" -s KEY -d "$DOMAIN"
    hub_stop
    row 0 out '^Azure Resource ID updated\.$' admin -w "$WS" -s KEY -d "$DOMAIN" -a /subscriptions/two,x
    sh_ $name "grep -qx 'AZURE_RESOURCE_ID=/subscriptions/two,x' $ETC/$WS/conf/omsadmin.conf"
    row 1 no '' service_control is-running
    hub_start $name
}
reonboarding() {
    local guid; guid=$(sh_ $name "grep ^AGENT_GUID= $ETC/$WS/conf/omsadmin.conf")
    sh_ $name "$OPT/bin/service_control stop"
    listed "Primary Workspace: $WS    Status: $REGISTERED"
    row 0 out "^info.Reusing previous agent GUID ${guid#AGENT_GUID=}$" admin -w "$WS" -s KEY -d "$DOMAIN"
    unsaid 'Generating certificate' "$OUT"
    listed "Primary Workspace: $WS    Status: $RUNS"
}
a_copy_gets_its_own_identity() {
    local guid; guid=$(sh_ $name "grep ^AGENT_GUID= $ETC/$WS/conf/omsadmin.conf")
    if ! sh_ $name 'test -s /sys/devices/virtual/dmi/id/product_uuid'; then echo 'no hardware id here'; else
        sh_ $name "sed -i 's/^UUID=.*/UUID=deadbeef-0000-4000-8000-000000000001/' $ETC/$WS/conf/omsadmin.conf"
        exits 1 on $name omsagent identity show; said 'ANOTHER machine' "$OUT.out"
        row 0 out 'This host is a copy of the one that was onboarded' admin -w "$WS" -s KEY -d "$DOMAIN"
        no sh_ $name "grep -qx '$guid' $ETC/$WS/conf/omsadmin.conf"
        exits 0 on $name omsagent identity show
    fi
    guid=$(sh_ $name "grep ^AGENT_GUID= $ETC/$WS/conf/omsadmin.conf")
    exits 0 on $name omsagent identity reset "$WS"
    sh_ $name "! test -e $ETC/$WS/certs/oms.key && ! ls $VAR/$WS/state/* 2>/dev/null"
    listed "Primary Workspace: $WS    Status: $SAVED"
    row 0 out '^info.Generating certificate' admin -w "$WS" -s KEY -d "$DOMAIN"
    no sh_ $name "grep -qx '$guid' $ETC/$WS/conf/omsadmin.conf"
    listed "Primary Workspace: $WS    Status: $RUNS"
}
refused() {
    local before; before=$(sh_ $name "cat $ETC/$WS/certs/* $ETC/$WS/conf/omsadmin.conf | sha256sum")
    sh_ $name "$OPT/bin/service_control stop $WS"
    row 5 out 'Error onboarding\. HTTP code 403, Reason: ' admin -w "$WS" -s WRONG -d "$DOMAIN"
    row 7 out 'Error resolving host during the onboarding request' admin -w "$WS" -s KEY -d nowhere.invalid
    unsaid 'HTTP|code' "$OUT.out"
    row 4 out 'Verify the proxy' admin -w "$WS" -s KEY -d "$DOMAIN" -p 127.0.0.1:9
    hub_stop
    row 8 out 'Error during the onboarding request: curl returned ' admin -w "$WS" -s KEY -d "$DOMAIN"
    hub_start $name
    equal "$(sh_ $name "cat $ETC/$WS/certs/* $ETC/$WS/conf/omsadmin.conf | sha256sum")" "$before" 'identity after refusals'
    sh_ $name "$OPT/bin/service_control start $WS"
    listed "Primary Workspace: $WS    Status: $RUNS"
}
renewed_and_rebuilt() {
    sh_ $name "echo mine >$ETC/$WS/conf/omsagent.d/heartbeat.conf; echo '# mine' >>$ETC/$WS/conf/omsagent.d/syslog.conf; rm -rf $VAR/$WS/tmp /etc/logrotate.d/omsagent-$WS; chmod 777 $ETC/$WS/certs"
    row 0 no '' admin -U
    sh_ $name "grep -q oms_heartbeat $ETC/$WS/conf/omsagent.d/heartbeat.conf && grep -qx '# mine' $ETC/$WS/conf/omsagent.d/syslog.conf"
    row 0 out "^info.Configure log rotate for workspace $WS" admin -R
    equal "$(sh_ $name "stat -c %a $ETC/$WS/certs")" 700
    sh_ $name "test -d $VAR/$WS/tmp && test -s /etc/logrotate.d/omsagent-$WS"
    sh_ $name "cp $ETC/$WS/conf/omsadmin.conf /root/keep; : >$ETC/$WS/conf/omsadmin.conf"
    row 0 out "Workspace $WS has an empty configuration file at $ETC/$WS/conf/omsadmin.conf" admin -R
    sh_ $name "cat /root/keep >$ETC/$WS/conf/omsadmin.conf"
}
port_1270() {
    row 2 err 'omiserver.conf. does not exist' admin -o
    sh_ $name 'mkdir -p /etc/opt/omi/conf /opt/omi/bin; printf "#!/bin/sh\necho \$1 >>/root/omi-called\n" >/opt/omi/bin/service_control; chmod 755 /opt/omi/bin/service_control
        printf "httpport=0\nhttpsport=0\n" >/etc/opt/omi/conf/omiserver.conf; chown root:sys /etc/opt/omi/conf/omiserver.conf; chmod 444 /etc/opt/omi/conf/omiserver.conf'
    row 1 no '' admin -o
    row 0 out '^info.Onboarding SCOM$' admin -w scom
    said '^info.Generating SCOM certificates\.\.\.$' "$OUT.out"; said '^info.Opening port 1270$' "$OUT.out"
    row 0 no '' admin -o
    equal "$(cat "$OUT")" '' 'what -o prints'
    equal "$(sh_ $name 'stat -c "%a %U:%G" /etc/opt/omi/conf/omiserver.conf; cat /root/omi-called')" "444 root:sys
restart" 'mode and group of omiserver.conf; calls of omi'
    sh_ $name "openssl x509 -in $ETC/scom/certs/scom-cert.pem -noout -checkend 86400 2>/dev/null || ! command -v openssl >/dev/null"
    listed "Primary Workspace: $WS    Status: $RUNS" "Workspace(SCOM Workspace): scom    Status: $SAVED"
    row 0 out '^info.Port 1270 already open$' admin -w scom
    unsaid 'Generating' "$OUT"
    row 0 out '^info.Onboarding LAD$' admin -w LAD
    equal "$(sh_ $name "cat $ETC/LAD/conf/.multihoming_marker")" 'LAD Workspace'
    row 0 no '' admin -x LAD
    row 0 no '' admin -x scom
    sh_ $name 'rm -r /etc/opt/omi /opt/omi'
}
services() {
    local verb
    row 75 err "^Unknown parameter : ''$" service_control
    row 72 err "^Unknown parameter : 'status'$" service_control status
    if has_systemd; then
        # shellcheck disable=SC2016
        sh_ $name 'd=$(/opt/microsoft/omsagent/bin/service_control find-systemd-dir || true); [ -d "$d" ]'
    else row 67 no '' service_control find-systemd-dir; fi
    for verb in stop stop start start restart reload; do row 0 no '' service_control $verb "$WS"; done
    row 1 no '' service_control is-running
    row 0 out "^INFO:  Unconfiguring OMS agent( \(systemd\))? service $WS \.\.\.$" service_control disable
    listed "Primary Workspace: $WS    Status: $SAVED"
    no sh_ $name "ls /etc/init.d/omsagent* /usr/lib/systemd/system/omsagent* /lib/systemd/system/omsagent* 2>/dev/null"
    row 0 out "^INFO:  Configuring OMS agent service $WS \.\.\.$" service_control enable
    listed "Primary Workspace: $WS    Status: $REGISTERED"
    row 0 no '' service_control start
    listed "Primary Workspace: $WS    Status: $RUNS"
    row 1 err "^ERROR:  start_omsagent failed with result '1' on workspace $NOWS\.$" service_control start "$NOWS"
    row 0 no '' service_control stop "$NOWS"
}
# A fragment that somebody dropped: taken up by the same process; a mistake leaves the old configuration at work.
reload_takes_fragments() {
    local pid d=$ETC/$WS/conf/omsagent.d mark
    pid=$(sh_ $name "cat $VAR/run/omsagent.pid")
    sh_ $name "printf '<source>\n  type syslog\n  port 25299\n  bind 127.0.0.1\n  tag oms.syslog\n</source>\n' >$d/more.conf; chown omsagent:omiusers $d/more.conf"
    row 0 no '' service_control reload "$WS"
    sh_ $name "for i in 1 2 3 4 5 6 7 8 9; do ss -uln | grep -q 127.0.0.1:25299 && exit 0; sleep 0.5; done; tail -n 5 $VAR/log/omsagent.log; exit 1"
    equal "$(sh_ $name "cat $VAR/run/omsagent.pid")" "$pid" 'pid after a reload'
    mark="reload-$$-$RANDOM"
    sh_ $name "logger -p auth.warning $mark"; arrives "$mark" 20
    ! has_systemd || sh_ $name "systemctl is-active -q $(agent_unit) && [ \"\$(systemctl show -p MainPID --value $(agent_unit))\" = $pid ]"
    sh_ $name "echo '<source' >$d/more.conf"
    row 0 no '' service_control reload "$WS"
    sh_ $name "for i in 1 2 3 4 5 6 7 8 9; do grep -q 'the configuration stays as it was' $VAR/log/omsagent.log && exit 0; sleep 0.5; done; exit 1"
    sh_ $name "ss -uln | grep -q 127.0.0.1:25299 && rm $d/more.conf"
    row 0 no '' service_control reload "$WS"
    sh_ $name "for i in 1 2 3 4 5 6 7 8 9; do ss -uln | grep -q 127.0.0.1:25299 || exit 0; sleep 0.5; done; exit 1"
    equal "$(sh_ $name "cat $VAR/run/omsagent.pid")" "$pid" 'pid after three reloads'
}
# The sandboxed agent and root each get a new certificate; files look as before, logs go on.
certificate_renewed() {
    local before looks mark c=$ETC/$WS/certs
    before=$(sh_ $name "sha256sum <$c/oms.crt") looks=$(sh_ $name "stat -c '%n %a %U %G' $c/* $c")
    row 0 out "^$WS: renewed, valid until " identity renew "$WS"
    equal "$(sh_ $name "stat -c '%n %a %U %G' $c/* $c")" "$looks" 'the files in certs'
    [ "$(sh_ $name "sha256sum <$c/oms.crt")" != "$before" ]
    mark="renew-$$-$RANDOM"
    sh_ $name "logger -p auth.warning $mark"; arrives "$mark" 20
    before=$(sh_ $name "sha256sum <$c/oms.crt")
    hub agents renew --data "$HUB_DATA" --workspace "$WS"
    # The agent's own way, within its sandbox: a heartbeat each second.
    sh_ $name "sed -i 's/run_interval 20m/run_interval 1s/' $ETC/$WS/conf/omsagent.d/heartbeat.conf"
    row 0 no '' service_control reload "$WS"
    sh_ $name "for i in \$(seq 1 60); do grep -q 'the client certificate was renewed' $VAR/log/omsagent.log && exit 0; sleep 0.5; done; tail -n 9 $VAR/log/omsagent.log; exit 1"
    [ "$(sh_ $name "sha256sum <$c/oms.crt")" != "$before" ]
    sh_ $name "sed -i 's/run_interval 1s/run_interval 20m/' $ETC/$WS/conf/omsagent.d/heartbeat.conf"
    row 0 no '' service_control reload "$WS"
    mark="renew-$$-$RANDOM"
    sh_ $name "logger -p auth.warning $mark"; arrives "$mark" 20
    equal "$(sh_ $name "stat -c '%n %a %U %G' $c/* $c")" "$looks" 'the files in certs'
}
one_name_for_all() {
    sh_ $name 'service omsagent stop'
    has_systemd || exits 3 sh_ $name 'service omsagent status'
    listed "Primary Workspace: $WS    Status: $REGISTERED"
    sh_ $name 'service omsagent start'
    has_systemd || exits 0 sh_ $name 'service omsagent status'
    listed "Primary Workspace: $WS    Status: $RUNS"
    local before; before=$(sh_ $name "cat $VAR/run/omsagent.pid")
    sh_ $name 'service omsagent restart'
    listed "Primary Workspace: $WS    Status: $RUNS"
    [ "$(sh_ $name "cat $VAR/run/omsagent.pid")" != "$before" ]
    sh_ $name "ps -ef | grep omsagent | grep -v grep | grep -q /opt/microsoft/omsagent"
}
sourced_for_functions() {
    sh_ $name ". $OPT/bin/service_control functions; echo still here" | grep -x 'still here'
    # Through a link of another name it is the tool all the same.
    sh_ $name "ln -s $OPT/bin/service_control /usr/local/sbin/omsctl"
    exits 72 on $name /usr/local/sbin/omsctl bogus
    sh_ $name 'rm /usr/local/sbin/omsctl'
}
exposure() {
    local figure
    figure=$(sh_ $name "systemd-analyze security --no-pager $(agent_unit)" | sed -n 's/.*Overall exposure level for .*: \([0-9.]*\).*/\1/p')
    echo "exposure $figure"
    [ -n "$figure" ] && awk "BEGIN { exit !($figure <= 2.0) }"
    sh_ $name "systemctl show -p Type -p WatchdogUSec -p MemoryMax -p OOMScoreAdjust $(agent_unit)" >"$WORK/unit"
    said '^Type=notify$' "$WORK/unit"; said '^WatchdogUSec=2min$' "$WORK/unit"; said '^MemoryMax=536870912$' "$WORK/unit"; said '^OOMScoreAdjust=200$' "$WORK/unit"
}
stuck_is_restarted() {
    sh_ $name "mkdir -p /run/systemd/system/$(agent_unit).d; printf '[Service]\nWatchdogSec=2\nRestartSec=0\n' >/run/systemd/system/$(agent_unit).d/w.conf; systemctl daemon-reload; systemctl restart $(agent_unit)"
    local pid; pid=$(sh_ $name "systemctl show -p MainPID --value $(agent_unit)")
    sleep 5
    equal "$(sh_ $name "systemctl show -p MainPID --value $(agent_unit)")" "$pid" 'pid of an agent that is well'
    sh_ $name "kill -STOP $pid"
    for _ in $(seq 1 100); do [ "$(sh_ $name "systemctl show -p MainPID --value $(agent_unit)")" = "$pid" ] || break; sleep 0.2; done
    [ "$(sh_ $name "systemctl show -p MainPID --value $(agent_unit)")" != "$pid" ]
    sh_ $name "rm -r /run/systemd/system/$(agent_unit).d; systemctl daemon-reload; for i in 1 2 3 4 5 6 7 8 9; do systemctl is-active -q $(agent_unit) && exit 0; sleep 1; done; exit 1"
}
key_from_credentials() {
    # Where they are configured there is nothing any more.
    sh_ $name "mkdir -p /run/systemd/system/$(agent_unit).d /root/of-roots; chmod 700 /root/of-roots; mv $ETC/$WS/certs/oms.* /root/of-roots/; chown root:root /root/of-roots/*
        printf '[Service]\nLoadCredential=oms.key:/root/of-roots/oms.key\nLoadCredential=oms.crt:/root/of-roots/oms.crt\n' >/run/systemd/system/$(agent_unit).d/c.conf; systemctl daemon-reload; systemctl restart $(agent_unit)"
    local mark="cred-$$-$RANDOM" rc=0
    sh_ $name "logger -p auth.warning $mark"
    arrives "$mark" 20 || rc=1
    # The pair is found where it is: nothing is missed, nothing made anew.
    sh_ $name "cat $ETC/$WS/conf/omsadmin.conf" >"$WORK/cred.before"
    sh_ $name 'omsagent doctor --install' | no grep -E 'key-missing|certificate-missing' || rc=1
    exits 0 admin $name -w "$WS" -s KEY -d "$DOMAIN"; said 'already onboarded'
    sh_ $name "cat $ETC/$WS/conf/omsadmin.conf" | cmp - "$WORK/cred.before" || rc=1
    sh_ $name "! ls $ETC/$WS/certs/oms.key 2>/dev/null" || rc=1
    sh_ $name "rm -r /run/systemd/system/$(agent_unit).d; mv /root/of-roots/* $ETC/$WS/certs/; chown omsagent:omiusers $ETC/$WS/certs/*; chmod 640 $ETC/$WS/certs/*; systemctl daemon-reload; systemctl restart $(agent_unit)"
    return $rc
}
syslog_conf() { case $ROOT in *syslog-ng*) echo /etc/syslog-ng/conf.d/95-omsagent.conf;; *) echo /etc/rsyslog.d/95-omsagent.conf;; esac; }
syslog_rows() {
    local f before; f=$(syslog_conf)
    row 1 err '^Unknown parameter : $' configure_syslog.sh
    row 1 err '^Unknown parameter : bogus$' configure_syslog.sh bogus
    row 1 err 'WORKSPACE_ID and SYSLOG_PORT are required' configure_syslog.sh configure
    row 1 err 'WORKSPACE_ID and SYSLOG_PORT are required' configure_syslog.sh configure "$WS"
    row 1 err 'WORKSPACE_ID and SYSLOG_PORT are required' configure_syslog.sh unconfigure
    row 1 err 'is not a port' configure_syslog.sh configure "$WS" 0
    row 1 err 'is not a workspace' configure_syslog.sh configure ../x 25224
    sh_ $name "grep -q '^# OMS Syslog collection for workspace $WS$' $f && grep -q '^# End of OMS Syslog collection for workspace $WS$' $f"
    before=$(sh_ $name "sha256sum <$f")
    row 0 out '^Configuring r?syslog(-ng)? for OMS logging$' configure_syslog.sh configure "$WS" 25224
    unsaid 'Restarting' "$OUT"
    row 0 out '^Configuring ' configure_syslog.sh configure LAD 25229
    said '^Restarting service: ' "$OUT.out"
    sh_ $name "grep -q '^# OMS Syslog collection for workspace LAD$' $f"
    row 0 out '^Unconfiguring ' configure_syslog.sh unconfigure LAD 25229
    equal "$(sh_ $name "sha256sum <$f")" "$before" "$f after configure and unconfigure of LAD"
    row 0 out '^Restarting service: r?syslog' configure_syslog.sh restart
}
selection() {
    local a="sel-$$-$RANDOM"
    row 0 out "^Forwarding local5\.info to workspace $WS$" configure_syslog.sh select "$WS" local5.info
    sh_ $name "logger -p local5.info '$a-taken'; logger -p auth.err '$a-left'"
    arrives "$a-taken" 20; absent "$a-left"
    row 0 out '^local5\.info$' configure_syslog.sh select "$WS"
    row 1 err 'selects nothing' configure_syslog.sh select "$WS" 'auth.err;*.* /etc/x'
    # Over TCP nothing is lost while the agent is away.
    row 0 out "^Forwarding local5\.info tcp to workspace $WS$" configure_syslog.sh select "$WS" local5.info tcp
    sh_ $name "logger -p local5.info '$a-tcp'"
    arrives "$a-tcp" 20
    sh_ $name "$OPT/bin/service_control stop; logger -p local5.info '$a-away'; sleep 1; $OPT/bin/service_control start"
    arrives "$a-away" 60
    row 0 out '^local5\.info tcp$' configure_syslog.sh select "$WS"
    # Another choice of messages is no other way for them.
    row 0 out "^Forwarding local5\.info tcp to workspace $WS$" configure_syslog.sh select "$WS" local5.info
    row 0 out "^Forwarding local5\.info to workspace $WS$" configure_syslog.sh select "$WS" local5.info udp
    # It is remembered by an onboarding, too.
    row 0 no '' service_control stop
    row 0 no '' admin -w "$WS" -s KEY -d "$DOMAIN"
    row 0 out '^local5\.info$' configure_syslog.sh select "$WS"
    row 0 out '^Forwarding auth,.*\.warning to workspace' configure_syslog.sh select "$WS" default
    sh_ $name "logger -p auth.err '$a-again'"
    arrives "$a-again" 20
}
three_ways() {
    local a="way-$$-$RANDOM" f conf=$ETC/$WS/conf/omsagent.d/syslog.conf before mine how rule
    case $ROOT in
        *syslog-ng*) f=/etc/syslog-ng/conf.d/95-omsagent.conf; rule='unix-dgram(';;
        *) f=/etc/rsyslog.d/95-omsagent.conf; rule=':omuxsock:';;
    esac
    row 1 err 'is no transport' configure_syslog.sh transport quic "$WS"
    row 1 err 'needs' configure_syslog.sh transport
    row 1 err 'does not exist' configure_syslog.sh transport tcp 99999999-2222-3333-4444-555555555555
    # Rules that somebody changed stay.
    case $ROOT in
        *syslog-ng*) ;;
        *) sh_ $name "sed -i 's/^auth.warning/auth.info/' $f"; before=$(sh_ $name "sha256sum <$f")
            row 1 err 'somebody changed the rules' configure_syslog.sh transport tcp "$WS"
            equal "$(sh_ $name "sha256sum <$f")" "$before" "$f with somebody's rules"
            sh_ $name "sed -i 's/^auth.info/auth.warning/' $f";;
    esac
    # Lines of others, in our file too, are theirs.
    sh_ $name "echo '# of another product' >>$f"
    before=$(sh_ $name "sha256sum <$f"); mine=$(sh_ $name "sha256sum <$conf")
    for how in tcp unix; do
        row 0 out "^Forwarding auth,.*\.warning $how to workspace $WS$" configure_syslog.sh transport $how "$WS" 25224
        said '^Restarting service: ' "$OUT.out"
        sh_ $name "grep -q '^# of another product$' $f; if command -v rsyslogd >/dev/null; then rsyslogd -N1; else syslog-ng -s; fi"
        sh_ $name "logger -p auth.err '$a-$how'"; arrives "$a-$how" 30
        # rsyslog's module for sockets does not notice that nobody listens.
        case $how:$rule in unix:*omux*) ;; *)
            sh_ $name "$OPT/bin/service_control stop; logger -p auth.err '$a-$how-away'; sleep 1; $OPT/bin/service_control start"
            arrives "$a-$how-away" 60;;
        esac
        row 0 out "\.warning $how$" configure_syslog.sh select "$WS"
    done
    sh_ $name "grep -qF '$rule' $f && test -S $VAR/$WS/run/syslog.sock && test \"\$(stat -c %a:%U:%G $VAR/$WS/run/syslog.sock)\" = 660:omsagent:omiusers"
    # Nothing to find fault with.
    sh_ $name "$OPT/bin/omsagent doctor --install >/tmp/found 2>&1 || true; cat /tmp/found"
    no sh_ $name "grep -E 'syslog-(not-forwarding|twice|broken)|sends nothing to the agent|sent twice' /tmp/found"
    # Remembered by an onboarding, which writes syslog.conf anew.
    row 0 no '' service_control stop
    row 0 no '' admin -w "$WS" -s KEY -d "$DOMAIN"
    sh_ $name "grep -q '^  path $VAR/$WS/run/syslog.sock$' $conf; logger -p auth.err '$a-again'"
    arrives "$a-again" 60
    row 0 out "^Forwarding auth,.*\.warning to workspace $WS$" configure_syslog.sh transport udp "$WS"
    equal "$(sh_ $name "sha256sum <$f")" "$before" "$f after all transports"
    equal "$(sh_ $name "sha256sum <$conf")" "$mine" "$conf after all transports"
    sh_ $name "sed -i '/^# of another product$/d' $f; no() { ! \"\$@\"; }; no test -e $VAR/$WS/run/syslog.sock"
    sh_ $name "logger -p auth.err '$a-udp'"; arrives "$a-udp" 30
}
configuration_explained() {
    exits 0 on $name "$OPT/bin/omsagent" config check -w "$WS"
    said 'honoured' "$OUT"; said 'nothing to change$' "$OUT"
    exits 0 on $name "$OPT/bin/omsagent" config show
    said '^Input syslog ' "$OUT"; said '  udp  *127\.0\.0\.1:25224$' "$OUT"
    # What the agent says at its start is what `check` says.
    sh_ $name "printf '<source>\n  type http\n  port 1\n</source>\n<match a.**>\n  type nosuch\n</match>\n' >$ETC/$WS/conf/omsagent.d/zz.conf; chmod 644 $ETC/$WS/conf/omsagent.d/zz.conf; $OPT/bin/service_control restart"
    exits 1 on $name "$OPT/bin/omsagent" config check -q
    said 'zz\.conf$' "$OUT"; said ' 1  <source> http .* ignored: ' "$OUT"; said ' 5  <match a\.\*\*> nosuch .* unknown: ' "$OUT"
    sh_ $name "grep -q 'zz.conf:1: a source of type .http. is left out: ' $VAR/$WS/log/omsagent.log && grep -q 'zz.conf:5: an output of type .nosuch. is not known here' $VAR/$WS/log/omsagent.log"
    # And an error is why it does not start.
    sh_ $name "sed -i 's/^  port .*/  port none/' $ETC/$WS/conf/omsagent.d/syslog.conf"
    exits 2 on $name "$OPT/bin/omsagent" config check --json
    said '"result":"error"' "$OUT"; said 'port. is .none.: it must be a number' "$OUT"
    no sh_ $name "$OPT/bin/service_control restart"
    sh_ $name "sed -i 's/^  port .*/  port 25224/' $ETC/$WS/conf/omsagent.d/syslog.conf; rm $ETC/$WS/conf/omsagent.d/zz.conf; $OPT/bin/service_control restart"
    # A copy, as somebody without rights.
    sh_ $name "cp -r $ETC/$WS/conf /tmp/copy; chmod -R a+rX /tmp/copy; cd /tmp; su -s /bin/sh nobody -c '$OPT/bin/omsagent config convert copy >/tmp/new.conf 2>&1' && $OPT/bin/omsagent config check /tmp/new.conf; rm -r /tmp/copy /tmp/new.conf"
    # Nothing of root's by an @include of the service account's.
    sh_ $name "echo '@include /etc/shadow' >$ETC/$WS/conf/omsagent.d/zz.conf; chown omsagent:omiusers $ETC/$WS/conf/omsagent.d/zz.conf"
    exits 2 on $name "$OPT/bin/omsagent" config check
    said 'account cannot read it' "$OUT"; unsaid ':[*!$]' "$OUT"
    sh_ $name "rm $ETC/$WS/conf/omsagent.d/zz.conf"
}
said_when_double() {
    case $ROOT in *syslog-ng*) sh_ $name "printf 'destination d_mine { udp(\"127.0.0.1\" port(25224)); };\n' >/etc/syslog-ng/conf.d/50-mine.conf";; *) sh_ $name 'echo "local6.* @127.0.0.1:25224" >/etc/rsyslog.d/50-mine.conf';; esac
    row 0 err '^warning.*50-mine\.conf line 1 forwards to port 25224 as well' configure_syslog.sh configure "$WS" 25224
    sh_ $name 'rm -f /etc/syslog-ng/conf.d/50-mine.conf /etc/rsyslog.d/50-mine.conf'
}
broken_by_others() {
    local f; f=$(syslog_conf)
    case $ROOT in *syslog-ng*) sh_ $name "echo 'destination {' >/etc/syslog-ng/conf.d/00-bad.conf";; *) sh_ $name 'echo "\$NoSuchDirective on" >/etc/rsyslog.d/00-bad.conf; echo "module(load=\"nosuch\")" >>/etc/rsyslog.d/00-bad.conf';; esac
    local before; before=$(sh_ $name "sha256sum <$f")
    row 1 err 'was invalid before' configure_syslog.sh configure "$WS2" 25300
    equal "$(sh_ $name "sha256sum <$f")" "$before" "$f after a refusal"
    sh_ $name 'rm -f /etc/syslog-ng/conf.d/00-bad.conf /etc/rsyslog.d/00-bad.conf'
}
restarts_once() {
    exits 0 admin $name -w "$WS2" -s KEY -d "$DOMAIN" -m Second
    local unit n; case $ROOT in *syslog-ng*) unit=syslog-ng.service;; *) unit=rsyslog.service;; esac
    n=$(sh_ $name "journalctl -q -u $unit -o cat | grep -c '^Started\|^Starting' || true")
    row 0 no '' admin -X
    sleep 1
    local m; m=$(sh_ $name "journalctl -q -u $unit -o cat | grep -c '^Started\|^Starting' || true")
    [ $((m - n)) -le 2 ] || wrong "$((m - n)) lines of a start of $unit for two workspaces"
    listed 'No Workspace'
    no sh_ $name "ls -d /etc/init.d/omsagent* /usr/lib/systemd/system/omsagent* /lib/systemd/system/omsagent* /etc/systemd/system/*/omsagent* $(syslog_conf) $VAR/[0-9a-f]* $ETC/[0-9a-f]* 2>/dev/null"
}
onboarding_file() { # LINE-END QUOTE
    sh_ $name "umask 077; k=\$(cat /mnt/k/key); printf 'WORKSPACE_ID=$2%s$2$1\nSHARED_KEY=$2%s$2$1\nURL_TLD=$2%s$2$1\nMULTI_HOMING_MARKER=$2\$(touch /root/sourced) x$2$1\n' $WS \"\$k\" $DOMAIN >/etc/omsagent-onboard.conf"
    row 0 out '^Reading onboarding params from: /etc/omsagent-onboard.conf$' admin
    listed "Workspace(\$(touch /root/sourced) x): $WS    Status: $RUNS"
    sh_ $name '! test -e /etc/omsagent-onboard.conf && ! test -e /root/sourced'
    exits 0 admin $name -X
}
bad_onboarding_file() {
    sh_ $name "umask 077; printf 'WORKSPACE_ID=$WS\nSHARED_KEY=%s\nURL_TLD=$DOMAIN\n' \"\$(cat /mnt/k/wrong)\" >/etc/omsagent-onboard.conf"
    row 5 out 'HTTP code 403' admin -v
    sh_ $name 'test -e /etc/omsagent-onboard.conf; printf "WORKSPACE_ID=x\n" >/etc/omsagent-onboard.conf'
    row 3 out 'Missing Workspace ID or Shared Key' admin
    sh_ $name 'rm /etc/omsagent-onboard.conf'
    listed 'No Workspace'
}
uninstall_rows() {
    row 1 err '^Invalid option specified: "X"; Valid modes: R \(remove\), P \(purge\)$' uninstall X
    exits 0 admin $name -w "$WS" -s KEY -d "$DOMAIN" --ca-file /mnt/k/ca.pem
    row 0 no '' uninstall
    sh_ $name "test -s $ETC/$WS/certs/oms.key && ! test -e $OPT/bin/omsadmin.sh"
    exits 0 bundle $name --upgrade
    listed "Primary Workspace: $WS    Status: $RUNS"
    row 0 no '' uninstall P
    sh_ $name "! test -e $ETC && ! test -e $VAR && ! test -e $OPT"
}

start $name
hub_start $name
case_ 'installed, not onboarded; every way to call' install_only
case_ 'who may: omsagent lists, nobody does not' as_omsagent
case_ '-l: four states, roles, order; -R -U -x -X on them' four_states
case_ '-x never leaves the workspace tree' removal_stays_inside
case_ '-p alone, refused, -u; the old place' proxy_alone
case_ '-w -s -v -a: masked; again; another resource id' onboard_row
case_ 'onboarded again: same GUID and certificate' reonboarding
case_ 'a copied machine, identity reset' a_copy_gets_its_own_identity
case_ '5, 7, 4, 8: identity stays' refused
case_ '-U renews, -R rebuilds' renewed_and_rebuilt
case_ '-o, -w scom, -w LAD' port_1270
case_ 'service_control: verbs, texts, codes' services
case_ 'reload: a fragment is taken up, a mistake is not, the process stays' reload_takes_fragments
case_ 'the certificate renewed by hand and by the agent' certificate_renewed
case_ 'omsagent.service stands for all' one_name_for_all
case_ 'service_control functions: harmless to whoever sources it' sourced_for_functions
if has_systemd; then
    case_ 'unit: exposure <= 2.0, notify, watchdog, limits' exposure
    case_ 'an agent that is stuck is started anew' stuck_is_restarted
    ! sh_ $name 'systemctl --version | awk "NR==1 {exit !(\$2 >= 247)}"' || case_ 'a key from LoadCredential' key_from_credentials
fi
case_ 'configure_syslog.sh: verbs, texts, codes' syslog_rows
case_ 'facilities and severity by choice' selection
case_ 'three ways to hand messages over' three_ways
case_ 'the configuration explained' configuration_explained
case_ 'rules of others that forward twice are named' said_when_double
case_ 'a configuration that others broke is left alone' broken_by_others
! has_systemd || case_ '-X of two workspaces restarts the syslog daemon once' restarts_once
has_systemd || admin $name -X >/dev/null
case_ 'onboarding file: plain' onboarding_file '' ''
case_ 'onboarding file: quoted, CRLF, never run' onboarding_file '\r' "'\\''"
case_ 'onboarding file: kept when it fails' bad_onboarding_file
case_ 'uninstall R and P' uninstall_rows
echo "rows shown as wanted: $(wc -l <"$WORK/rows")"
