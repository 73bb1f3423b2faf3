#!/bin/bash
# automation ROOT   what the world's automation does to an agent (users.md A.1), as it does it: the command lines, the files it waits
# for, the texts it compares. Drivers: VM extension, diagnostics extension, onboard script with the CEF installer, two Ansible
# roles, Puppet, cloud-init, image builds; the container image is the last part.
. "$(dirname "$(readlink -f "$0")")/lib.sh"
name=auto$$
ETC=/etc/opt/microsoft/omsagent VAR=/var/opt/microsoft/omsagent OPT=/opt/microsoft/omsagent
# What a caller sees: both streams as one text, without blanks around it.
seen() { local rc=0; sh_ $name "$1" >"$WORK/seen" 2>&1 </dev/null || rc=$?; sed -e '1s/^[[:space:]]*//' -e '$s/[[:space:]]*$//' "$WORK/seen" >"$OUT"; [ $rc = 0 ] || sed 's/^/  > /' "$OUT"; return $rc; }
as_root_with_key() { seen "k=\$(cat /mnt/k/key); $1"; }
clean() { exits 0 bundle $name --purge; sh_ $name "! test -e $ETC && ! test -e $VAR"; }
wait_for() { for _ in $(seq 1 "$2"); do ! sh_ $name "$1" || return 0; sleep 1; done; wrong "not after $2 s: $1"; }
# Every command trusts the test's hub; nothing else is added to what drivers type.
trust() { sh_ $name "mkdir -p $ETC && cp /mnt/k/ca.pem $ETC/ca.pem && chmod 644 $ETC/ca.pem"; }

vm_extension_install() {
    # Executed itself, mode 0144, from its own folder, flags in this order.
    sh_ $name "mkdir -p /var/lib/waagent/ext/packages && cp /mnt/dist/$BUNDLE_NAME /var/lib/waagent/ext/packages/"
    trust
    seen "cd /var/lib/waagent/ext && chmod 0144 packages/$BUNDLE_NAME && \$PWD/packages/$BUNDLE_NAME --upgrade --skip-docker-provider-install --noDigest"
    said 'exiting with status code 0'
    no seen "$OPT/bin/omsadmin.sh -o"; unsaid '[Ii]llegal option|unknown option'
    seen "$OPT/bin/omsadmin.sh -l"
    equal "$(tr '[:upper:]' '[:lower:]' <"$OUT")" 'no workspace'
}
vm_extension_enable() {
    as_root_with_key "$OPT/bin/omsadmin.sh -w $WS -s \$k -d $DOMAIN -a None"
    sleep 5
    seen "$OPT/bin/service_control restart"
    seen "$OPT/bin/omsadmin.sh -l"
    equal "$(grep -c "$WS" "$OUT")" 1
    sh_ $name "touch $ETC/$WS/conf/.azure_extension_marker && chown -R omsagent:omiusers $ETC/$WS && find $ETC/$WS -type d -exec chmod 750 {} + && find $ETC/$WS -type f -exec chmod 640 {} +"
    # Its watcher: a JSON file of strings through the links of the primary workspace, pid and log beside it.
    wait_for "test -s $VAR/log/ODSIngestion.status" 90
    sh_ $name "cat $VAR/log/ODSIngestion.status" | python3 -c 'import json,sys; d=json.load(sys.stdin); assert d["success"] == "true" and isinstance(d["operation"], str) and isinstance(d["message"], str), d'
    sh_ $name "kill -0 \$(cat $VAR/run/omsagent.pid) && grep -qE '^[0-9]{4}-[0-9]{2}-[0-9]{2} [0-9:]{8} [+-][0-9]{4} \[[a-z]+\]: ' $VAR/log/omsagent.log"
    # Enabled again, with -v at the very end.
    as_root_with_key "$OPT/bin/omsadmin.sh -w $WS -s \$k -d $DOMAIN -a None -v"
    said "already onboarded and agent is running"
}
vm_extension_refused() {
    local rc=0
    seen "k=\$(cat /mnt/k/wrong); $OPT/bin/service_control stop; $OPT/bin/omsadmin.sh -w $WS -s \$k -d $DOMAIN -a None" || rc=$?
    equal $rc 5 'exit code of a wrong key'; said 'Reason: InvalidWorkspaceKey'
    # No way to the service: 8, and it asks again with -v.
    hub_stop
    rc=0; as_root_with_key "$OPT/bin/omsadmin.sh -w $WS -s \$k -d $DOMAIN -a None" || rc=$?; equal $rc 8 'exit code without the service'
    rc=0; as_root_with_key "$OPT/bin/omsadmin.sh -w $WS -s \$k -d $DOMAIN -a None -v" || rc=$?; equal $rc 8 'exit code without the service, with -v'
    said 'internet connectivity'
    hub_start $name
    seen "$OPT/bin/service_control start"
}
vm_extension_update() {
    local guid; guid=$(sh_ $name "grep ^AGENT_GUID= $ETC/$WS/conf/omsadmin.conf")
    seen "$OPT/bin/service_control disable"
    sh_ $name "mkdir -p $ETC/state && mv $ETC/$WS $ETC/state/$WS"
    seen "$OPT/bin/omsadmin.sh -l"; equal "$(cat "$OUT")" 'No Workspace'
    seen "cd /var/lib/waagent/ext && \$PWD/packages/$BUNDLE_NAME --remove"
    sh_ $name "test -s $ETC/state/$WS/certs/oms.key"
    seen "cd /var/lib/waagent/ext && \$PWD/packages/$BUNDLE_NAME --upgrade --skip-docker-provider-install"
    seen "$OPT/bin/omsadmin.sh -l"; equal "$(cat "$OUT")" 'No Workspace'
    sh_ $name "mv $ETC/state/$WS $ETC/$WS && chown -R omsagent:omiusers $ETC/$WS && find $ETC/$WS -type d -exec chmod 750 {} + && find $ETC/$WS -type f -exec chmod 640 {} +"
    as_root_with_key "$OPT/bin/omsadmin.sh -w $WS -s \$k -d $DOMAIN -a None"
    equal "$(sh_ $name "grep ^AGENT_GUID= $ETC/$WS/conf/omsadmin.conf")" "$guid" 'AGENT_GUID after the update'
    sh_ $name "test -e $ETC/$WS/conf/.azure_extension_marker"
    seen "$OPT/bin/omsadmin.sh -l"; said "^Primary Workspace: $WS    Status: Onboarded\(OMSAgent Running\)$"
    local m="ext-$$-$RANDOM"; sh_ $name "logger -p auth.warning $m"; arrives "$m" 20
    seen "$OPT/bin/service_control disable"
    # Uninstalled without an update it deletes both trees itself.
    seen "cd /var/lib/waagent/ext && \$PWD/packages/$BUNDLE_NAME --remove"
    sh_ $name "rm -rf $ETC/$WS $VAR/$WS"
}
diagnostics_extension() {
    trust
    seen "cd /var/lib/waagent/ext/packages && sh omsagent-*.universal.x64.sh --upgrade"
    # A second time it is a cheap no-op.
    seen "cd /var/lib/waagent/ext/packages && sh omsagent-*.universal.x64.sh --upgrade"
    no sh_ $name "test -d $ETC/LAD"
    seen "sh $OPT/bin/omsadmin.sh -w LAD"
    sh_ $name "test -d $ETC/LAD/conf/omsagent.d"
    seen "sh $OPT/bin/configure_syslog.sh configure LAD 25229"
    # shellcheck disable=SC2016
    sh_ $name 'd=/etc/opt/microsoft/omsagent/LAD/conf/omsagent.d
        printf "<source>\n  type syslog\n  port 25229\n  bind 127.0.0.1\n  protocol_type udp\n  tag mdsd.syslog\n</source>\n" >$d/syslog.conf
        printf "<source>\n  type tail\n  path /var/log/x\n  pos_file /var/opt/microsoft/omsagent/LAD/state/t.pos\n  tag mdsd.filelog\n  format none\n</source>\n" >$d/tail.conf
        printf "<match mdsd.**>\n  type mdsd\n  log_level warn\n  djsonsocket /var/run/mdsd/x.socket\n</match>\n" >$d/z_out_mdsd.conf
        case $1 in *syslog-ng*) ;; *) printf "local0.err  @127.0.0.1:25229\n" >>/etc/rsyslog.d/95-omsagent.conf;; esac' "$ROOT"
    seen "sh $OPT/bin/configure_syslog.sh restart LAD 25229"
    seen "$OPT/bin/service_control start LAD"
    seen "$OPT/bin/service_control restart LAD"
    sh_ $name "ss -Hlnu 'sport = :25229' | grep -q ."
    # Types it does not know are named once, and the agent runs on.
    sh_ $name "grep -q mdsd $VAR/LAD/log/omsagent.log"
    seen "$OPT/bin/omsadmin.sh -l"; equal "$(tr '[:upper:]' '[:lower:]' <"$OUT")" 'no workspace'
    seen "$OPT/bin/service_control stop LAD"
    seen "sh $OPT/bin/configure_syslog.sh unconfigure LAD 25229"
    no sh_ $name 'grep -rs "LAD\|25229" /etc/rsyslog.d /etc/rsyslog.conf /etc/syslog-ng'
    seen "sh $OPT/bin/omsadmin.sh -x LAD"
    no sh_ $name "test -e $ETC/LAD"
    seen "cd /var/lib/waagent/ext/packages && sh omsagent-*.universal.x64.sh --remove"
}
# What the portal told everyone to paste ends in this line.
paste() { as_root_with_key "cd /root && cp -f /mnt/dist/$BUNDLE_NAME . && sudo sh ./$BUNDLE_NAME --upgrade -w $WS -s \$k -d $DOMAIN"; }
cef_installer() {
    trust; paste
    local d=$ETC/$WS/conf/omsagent.d
    sh_ $name "test -d $d && mkdir -p $d && printf '<source>\n  type syslog\n  port 25226\n  bind 127.0.0.1\n  protocol_type udp\n  tag oms.security\n  format /(?<time>(?:\w+ +){2,3}(?:\d+:){2}\d+|\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}.[\w\-\:\+]{3,12}):?\s*(?:(?<host>[^: ]+) ?:?)?\s*(?<ident>.*CEF.+?(?=0\|)|%%ASA[0-9\-]{8,10})\s*:?(?<message>0\|.*|.*)/\n  <parse>\n    message_format auto\n  </parse>\n</source>\n<filter oms.security.**>\n  type filter_syslog_security\n</filter>\n' >$d/security_events.conf && sed -i 's/protocol_type udp/protocol_type tcp/' $d/security_events.conf"
    case $ROOT in *syslog-ng*) ;; *) sh_ $name 'printf "if \$rawmsg contains \"CEF:\" or \$rawmsg contains \"ASA-\" then @@127.0.0.1:25226\n" >/etc/rsyslog.d/security-config-omsagent.conf; service rsyslog restart';; esac
    seen "$OPT/bin/service_control restart $WS"
    sh_ $name "ss -Hlnt 'sport = :25226' | grep -q . && ps -ef | grep -v grep | grep -q opt/microsoft/omsagent && test -s $d/security_events.conf"
    # It outlives the next onboarding.
    paste; sh_ $name "test -s $d/security_events.conf"
    clean; sh_ $name 'test ! -e /etc/rsyslog.d/security-config-omsagent.conf || rm /etc/rsyslog.d/security-config-omsagent.conf'
}
role_by_file() {
    # There is nothing -> purge, install, restart of that workspace; a second run finds the file and does nothing.
    no sh_ $name "stat $OPT/bin/omsadmin.sh"
    exits 0 bundle $name --purge
    trust; paste
    seen "$OPT/bin/service_control restart $WS"
    sh_ $name "stat $OPT/bin/omsadmin.sh"
    # The other role removes all workspaces and onboards again.
    seen "$OPT/bin/omsadmin.sh -X"
    as_root_with_key "$OPT/bin/omsadmin.sh -w $WS -s \$k -d $DOMAIN"
    seen "$OPT/bin/omsadmin.sh -l"; said "^Primary Workspace: $WS    Status: Onboarded\(OMSAgent Running\)$"
    clean
}
role_with_proxy_conf() {
    # Accounts and a commented proxy.conf come before the package.
    sh_ $name "groupadd -r omiusers; useradd -r -g omiusers -d $VAR/run -s /bin/bash omsagent; mkdir -p $ETC
        printf '# Ansible managed\nhttp://127.0.0.1:9\n' >$ETC/proxy.conf; chown omsagent:omiusers $ETC/proxy.conf; chmod 640 $ETC/proxy.conf"
    seen "cd /root && sh ./$BUNDLE_NAME --upgrade"
    trust
    equal "$(sh_ $name "head -n 1 $ETC/proxy.conf")" '# Ansible managed'
    # The proxy is used, and it is dead: 4, and no workspace.
    as_root_with_key "$OPT/bin/omsadmin.sh -w $WS -s \$k -d $DOMAIN" && return 1
    said 'Verify the proxy'
    sh_ $name "rm $ETC/proxy.conf"
    as_root_with_key "$OPT/bin/omsadmin.sh -w $WS -s \$k -d $DOMAIN"
    clean
    sh_ $name 'getent passwd omsagent && userdel omsagent && { ! getent group omiusers || groupdel omiusers; }'
}
puppet() {
    # The file, then the packages by hand; it writes the file again on each run.
    local n f
    for n in 1 2; do
        trust
        sh_ $name "umask 077; printf 'WORKSPACE_ID=$WS\nSHARED_KEY=%s\nURL_TLD=$DOMAIN\n' \"\$(cat /mnt/k/key)\" >/etc/omsagent-onboard.conf"
        if [ $n = 1 ]; then
            if is_rpm; then f=$(cd "$DIST" && ls omsagent-*.x86_64.rpm); seen "rpm -Uvh --force /mnt/dist/$f"
            else f=$(cd "$DIST" && ls omsagent_*_amd64.deb); seen "dpkg -i --force-confold --force-confdef /mnt/dist/$f"; fi
        else seen "$OPT/bin/omsadmin.sh"; said 'already onboarded'; fi
        sh_ $name '! test -e /etc/omsagent-onboard.conf'
        seen "$OPT/bin/omsadmin.sh -l"; said "^Primary Workspace: $WS    Status: Onboarded\(OMSAgent Running\)$"
    done
    if has_systemd; then
        # It names the service without the id, through a link of its own.
        sh_ $name "u=\$(systemctl show -p FragmentPath --value omsagent-$WS.service); ln -s \$u /etc/systemd/system/omsagent.service && systemctl daemon-reload && systemctl restart omsagent && systemctl is-active omsagent-$WS.service"
        seen "$OPT/bin/service_control restart"
        sh_ $name 'test -L /etc/systemd/system/omsagent.service && rm /etc/systemd/system/omsagent.service && systemctl daemon-reload'
    fi
    clean
}
cloud_init() {
    # First boot: no terminal, no HOME, everything merged into a log.
    trust
    exits 0 sh_ $name "k=\$(cat /mnt/k/key); env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin setsid sh -c 'cd /root && sh ./$BUNDLE_NAME --upgrade -w $WS -s '\$k' -d $DOMAIN' </dev/null >/root/ci.log 2>&1"
    seen "$OPT/bin/service_control restart $WS"
    seen 'tail -n 1 /root/ci.log'; said '^OMS agent shell bundle exiting with status code 0$'
}
fleet_script() {
    # Which workspace is it in? The folders tell. Another one: onboard there.
    sh_ $name "ls $ETC | grep -E -o '[0-9a-f]{8}-([0-9a-f]{4}-){3}[0-9a-f]{12}'" >"$WORK/in"
    equal "$(cat "$WORK/in")" "$WS"
    as_root_with_key "sh -x $OPT/bin/omsadmin.sh -w $WS2 -s \$k -d $DOMAIN"
    seen "$OPT/bin/service_control restart"
    seen "$OPT/bin/omsadmin.sh -l"; said "^Primary Workspace: $WS2    Status: Onboarded\(OMSAgent Running\)$"; said "^Workspace: $WS    Status: Onboarded"
}
image_build() {
    seen "[ -d $OPT/ ] && $OPT/bin/omsadmin.sh -l && $OPT/bin/omsadmin.sh -X"
    seen "$OPT/bin/omsadmin.sh -l"; equal "$(cat "$OUT")" 'No Workspace'
    clean
}
container() {
    # No init, secrets as files, the agent in the foreground.
    seen "cp /mnt/dist/$BUNDLE_NAME /opt/ && chmod 755 /opt/$BUNDLE_NAME && touch /etc/.omi_disable_service_control && cd /opt && ./omsagent-*.universal.x64.sh --extract && mv /opt/omsbundle* /opt/omsbundle"
    if is_rpm; then seen 'rpm -Uvh /opt/omsbundle/110/omsagent*.rpm'; else seen 'dpkg -i /opt/omsbundle/110/omsagent*.deb'; fi
    trust
    sh_ $name "sed -i -e 's/bind 127.0.0.1/bind 0.0.0.0/g' $ETC/sysconf/omsagent.d/syslog.conf"
    # shellcheck disable=SC2016
    seen 'mkdir -p /etc/omsagent-secret; printf %s "$(cat /mnt/k/key)" >/etc/omsagent-secret/KEY; /opt/microsoft/omsagent/bin/omsadmin.sh -w '"$WS"' -s "$(cat /etc/omsagent-secret/KEY)" -d '"$DOMAIN"
    said 'No service manager runs here'
    seen "$OPT/bin/service_control start"; said 'No service manager runs here'
    seen "$OPT/bin/service_control restart"; said 'No service manager runs here'
    seen "$OPT/bin/omsadmin.sh -l"; said "^Primary Workspace: $WS    Status: Saved"
    sh_ $name "setsid runuser -u omsagent -g omiusers -- $OPT/bin/omsagent run --workspace $WS >/dev/null 2>&1 </dev/null &"
    wait_for "ss -Hlnu 'sport = :25224' | grep -q 0.0.0.0" 20
    seen "$OPT/bin/omsadmin.sh -l"; said "^Primary Workspace: $WS    Status: Onboarded\(OMSAgent Running\)$"
    # The liveness probe.
    sh_ $name 'ps -ef | grep omsagent | grep -v grep'
    # Its end: the trap stops the agent, and nothing is lost half-written.
    seen "$OPT/bin/service_control stop"
    no sh_ $name 'pgrep -u omsagent'
    # Disabling it stops it, too.
    sh_ $name "setsid runuser -u omsagent -g omiusers -- $OPT/bin/omsagent run --workspace $WS >/dev/null 2>&1 </dev/null &"
    wait_for "ss -Hlnu 'sport = :25224' | grep -q 0.0.0.0" 20
    seen "$OPT/bin/service_control disable $WS"; said "^INFO:  Unconfiguring OMS agent service $WS"
    no sh_ $name 'pgrep -u omsagent'
    seen "$OPT/bin/omsadmin.sh -l"; said "^Primary Workspace: $WS    Status: Saved"
    sh_ $name "tail -n 1 $VAR/$WS/log/omsagent.log 2>/dev/null | grep -q stopped || ! test -s $VAR/$WS/log/omsagent.log"
}

start $name
hub_start $name
case_ 'VM extension: install, probes' vm_extension_install
case_ 'VM extension: enable, watcher, enable again' vm_extension_enable
case_ 'VM extension: refused, and the words it looks for' vm_extension_refused
case_ 'VM extension: update with the tree moved away and back' vm_extension_update
case_ 'diagnostics extension: LAD from install to removal' diagnostics_extension
case_ 'CEF installer: security_events.conf on 25226' cef_installer
case_ 'Ansible role: by the file that is there; -X and again' role_by_file
case_ 'Ansible role: accounts and proxy.conf come first' role_with_proxy_conf
case_ 'Puppet: onboarding file, packages by hand, its own link' puppet
case_ 'cloud-init: no terminal, no environment' cloud_init
case_ 'fleet script: the folder tells the workspace' fleet_script
case_ 'image build: -l, -X' image_build
hub_stop
"$RIG/down" --now "$name" >/dev/null 2>&1
name=autoc$$
INSTANCES+=("$name")
"$RIG/up" --bind-ro "$DIST:/mnt/dist" --bind-ro "$SYS:/mnt/t" --bind-ro "$WORK/k:/mnt/k" --host "$WS.oms.$DOMAIN=127.0.0.1" \
    --host "$WS.ods.$DOMAIN=127.0.0.1" "$ROOT" "$name" 2>"$WORK/up" || { cat "$WORK/up" >&2; stage_broken 'no system without an init'; }
hub_start $name
case_ 'container image: extract, no init, secrets, probe, stop' container
