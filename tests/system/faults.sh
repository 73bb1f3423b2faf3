#!/bin/bash
# faults ROOT   what goes wrong half-way: a start that fails, a syslog daemon that does not come back, a run that is killed at
# any moment, two runs at once, files deleted by hand, files planted by the service account. The host is as before, or the
# next run makes it right, and a purge leaves nothing.
. "$(dirname "$(readlink -f "$0")")/lib.sh"
name=faults$$
# shellcheck disable=SC2016
ONBOARD=(-w "$WS" -s KEY -d "$DOMAIN" --ca-file /mnt/k/ca.pem)
ETC=/etc/opt/microsoft/omsagent
VAR=/var/opt/microsoft/omsagent
UNIT=omsagent-$WS.service

# fails_once UNIT WHEN-FLAG: the unit's next start fails when /run/WHEN-FLAG is there; only that one.
fails_once() {
    sh_ $name 'mkdir -p "/etc/systemd/system/$1.d" && printf "[Service]\nExecStartPre=+/bin/sh -c \"test ! -e /run/fail-once || { rm /run/fail-once; exit 1; }\"\nRestart=no\n" >"/etc/systemd/system/$1.d/fail.conf" && systemctl daemon-reload && touch /run/fail-once' "$1"
}
fails_no_more() { sh_ $name 'rm -rf "/etc/systemd/system/$1.d" /run/fail-once; systemctl daemon-reload' "$1"; }
state() { # what must not change, by content
    sh_ $name "cd / && find $ETC/$WS $ETC/proxy.conf etc/rsyslog.d/95-omsagent.conf etc/syslog-ng/conf.d/95-omsagent.conf etc/logrotate.d -type f 2>/dev/null | grep -v '[.]pos$' | sort | xargs sha256sum
        ls -l $ETC $VAR | sed 's/[0-9][0-9]:[0-9][0-9]//'; systemctl is-active $UNIT; systemctl is-enabled $UNIT; cat /lib/systemd/system/$UNIT /usr/lib/systemd/system/$UNIT 2>/dev/null; true"
}

# To rpm a script that fails is a warning; to us it is a failure, too, and is mended by the next run.
configuring_fails() {
    sh_ $name 'f=$(readlink -f "$(command -v useradd)"); echo "$f" >/run/where; mv "$f" "$f.real"; printf "#!/bin/sh\necho no >&2; exit 1\n" >"$f"; chmod 755 "$f"'
    exits 17 bundle $name --install
    unsaid 'not taken back|panicked'
    sh_ $name 'f=$(cat /run/where); mv "$f.real" "$f"; rm /run/where'
    inside $name list >"$WORK/now"; same_file "$WORK/clean" "$WORK/now"
    inside $name accounts | cmp - "$WORK/clean.accounts"
}
# By hand there is nobody to take it back: the next bundle finishes it.
failure_by_hand_is_mended() {
    sh_ $name 'f=$(readlink -f "$(command -v useradd)"); echo "$f" >/run/where; mv "$f" "$f.real"; printf "#!/bin/sh\nexit 1\n" >"$f"; chmod 755 "$f"; rpm -i --nosignature /mnt/dist/omsagent-*.x86_64.rpm; f=$(cat /run/where); mv "$f.real" "$f"; rm /run/where; rpm -q omsagent; ! id omsagent'
    exits 0 bundle $name --upgrade
    sh_ $name 'id omsagent; visudo -c; grep -rq omsagent /etc/sudoers /etc/sudoers.d; ! test -e /var/lib/omsagent/unconfigured'
    exits 0 bundle $name --purge
}
start_fails() {
    exits 0 bundle $name --upgrade
    inside $name list >"$WORK/installed"
    fails_once "$UNIT"
    exits 30 admin $name "${ONBOARD[@]}"
    said "cannot (re)?start .?$UNIT"
    unsaid 'not taken back|panicked'
    fails_no_more "$UNIT"
    inside $name list >"$WORK/now"; same_file "$WORK/installed" "$WORK/now"
    exits 0 admin $name -l; said '^No Workspace$'
}

onboards() { exits 0 admin $name "${ONBOARD[@]}"; said 'Onboarding success'; sh_ $name "systemctl is-active $UNIT"; }

# A workspace without its GUID gets a new certificate; when the agent does not start with it, the old one is back and runs.
failed_start_keeps_the_old_pair() {
    sh_ $name "ln -sfn /nowhere $ETC/conf"
    state >"$WORK/s1"
    fails_once "$UNIT"
    sh_ $name "sed -i.was 's/^AGENT_GUID=.*/AGENT_GUID=/' $ETC/$WS/conf/omsadmin.conf"
    exits 30 admin $name "${ONBOARD[@]}"
    unsaid 'not taken back|panicked'
    fails_no_more "$UNIT"
    sh_ $name "cd $ETC/$WS/conf && chown --reference=omsadmin.conf omsadmin.conf.was && mv omsadmin.conf.was omsadmin.conf"
    state >"$WORK/s2"; same_file "$WORK/s1" "$WORK/s2"
    sh_ $name "systemctl is-active $UNIT"
    sh_ $name "ln -sfn $ETC/$WS/conf $ETC/conf"
}

failed_syslog_restart_keeps_the_forwarding() {
    local daemon=rsyslog file=/etc/rsyslog.d/95-omsagent.conf
    [ "$(sh_ $name 'systemctl is-active rsyslog' || true)" = active ] || { daemon=syslog-ng; file=/etc/syslog-ng/conf.d/95-omsagent.conf; }
    sh_ $name 'sed -i "s/25224/25299/" "$1"' "$file"
    sh_ $name "ln -sfn /nowhere $ETC/conf"
    state >"$WORK/s1"
    fails_once $daemon.service
    exits 30 admin $name "${ONBOARD[@]}"
    unsaid 'not taken back|panicked'
    fails_no_more $daemon.service
    state >"$WORK/s2"; same_file "$WORK/s1" "$WORK/s2"
    equal "$(sh_ $name "systemctl is-active $daemon")" active "$daemon"
    exits 0 admin $name "${ONBOARD[@]}"
    sh_ $name 'grep -q 25224 "$1"' "$file"
}

# A running agent is restarted when what it reads is another; and not otherwise.
new_settings_reach_the_agent() {
    local before after
    before=$(sh_ $name "systemctl show -p MainPID --value $UNIT")
    exits 0 admin $name "${ONBOARD[@]}"; said 'already onboarded and agent is running'
    equal "$(sh_ $name "systemctl show -p MainPID --value $UNIT")" "$before" 'the pid'
    exits 0 admin $name "${ONBOARD[@]}" -a /subscriptions/x
    sh_ $name "grep -qx AZURE_RESOURCE_ID=/subscriptions/x $ETC/$WS/conf/omsadmin.conf"
    after=$(sh_ $name "systemctl show -p MainPID --value $UNIT")
    [ "$before" != "$after" ] || wrong 'the agent was not restarted'
}

# Killed while the agent starts with a new certificate: the next command that changes the host takes all of it back.
killed_onboarding_is_taken_back() {
    sh_ $name "ln -sfn /nowhere $ETC/conf"
    state >"$WORK/s1"
    sh_ $name "sed -i.was 's/^AGENT_GUID=.*/AGENT_GUID=/' $ETC/$WS/conf/omsadmin.conf"
    sh_ $name 'mkdir -p "/etc/systemd/system/$1.d" && printf "[Service]\nExecStartPre=+/bin/sleep 20\n" >"/etc/systemd/system/$1.d/slow.conf" && systemctl daemon-reload' "$UNIT"
    sh_ $name 'key=$(cat /mnt/k/key); /opt/microsoft/omsagent/bin/omsadmin.sh -w "$1" -s "$key" -d "$2" --ca-file /mnt/k/ca.pem >/run/o 2>&1 & p=$!
        for i in $(seq 1 200); do grep -q "\"what\":\"install, enable and start" /var/lib/omsagent/journal.jsonl && [ "$(systemctl is-active "$3")" = activating ] && break; sleep 0.1; done
        kill -KILL $p $(pgrep -f "^[^ ]*omsagent admin") 2>/dev/null; true' "$WS" "$DOMAIN" "$UNIT"
    sh_ $name 'rm -rf "/etc/systemd/system/$1.d"; systemctl daemon-reload' "$UNIT"
    exits 0 sh_ $name '/opt/microsoft/omsagent/bin/omsagent history'; said 'not finished .* onboard workspace'
    # The key that was replaced is kept for root alone, and not in the journal.
    sh_ $name 'grep -rlq "PRIVATE KEY" /var/lib/omsagent/undo && [ -z "$(find /var/lib/omsagent/undo -perm /077)" ] && ! grep -q "PRIVATE KEY" /var/lib/omsagent/journal.jsonl'
    exits 0 admin $name -l; unsaid 'did not finish'
    exits 0 sh_ $name "/opt/microsoft/omsagent/bin/service_control start $WS"; said 'onboard workspace .* did not finish; taken back'
    unsaid 'not taken back|panicked'
    sh_ $name "cd $ETC/$WS/conf && chown --reference=omsadmin.conf omsadmin.conf.was && mv omsadmin.conf.was omsadmin.conf"
    state >"$WORK/s2"; same_file "$WORK/s1" "$WORK/s2"
    sh_ $name "systemctl is-active $UNIT; test ! -e /var/lib/omsagent/undo"
    exits 0 sh_ $name '/opt/microsoft/omsagent/bin/omsagent history'; said 'taken back .* onboard workspace'; unsaid 'not finished'
    sh_ $name "ln -sfn $ETC/$WS/conf $ETC/conf"
}

# Ended by SIGTERM in the same moment: it takes all of it back by itself.
ended_onboarding_is_taken_back() {
    sh_ $name "ln -sfn /nowhere $ETC/conf"
    state >"$WORK/s1"
    sh_ $name "sed -i.was 's/^AGENT_GUID=.*/AGENT_GUID=/' $ETC/$WS/conf/omsadmin.conf"
    sh_ $name 'mkdir -p "/etc/systemd/system/$1.d" && printf "[Service]\nExecStartPre=+/bin/sleep 5\n" >"/etc/systemd/system/$1.d/slow.conf" && systemctl daemon-reload' "$UNIT"
    # shellcheck disable=SC2016
    exits 30 sh_ $name 'key=$(cat /mnt/k/key); n=$(wc -l </var/lib/omsagent/journal.jsonl); /opt/microsoft/omsagent/bin/omsadmin.sh -w "$1" -s "$key" -d "$2" --ca-file /mnt/k/ca.pem & p=$!
        for i in $(seq 1 200); do tail -n "+$((n + 1))" /var/lib/omsagent/journal.jsonl | grep -q "\"what\":\"install, enable and start" && [ "$(systemctl is-active "$3")" = activating ] && break; sleep 0.1; done
        kill -TERM $p; wait $p' "$WS" "$DOMAIN" "$UNIT"
    said 'stopped by a signal'; unsaid 'not taken back|panicked'
    sh_ $name 'rm -rf "/etc/systemd/system/$1.d"; systemctl daemon-reload' "$UNIT"
    sh_ $name "cd $ETC/$WS/conf && chown --reference=omsadmin.conf omsadmin.conf.was && mv omsadmin.conf.was omsadmin.conf"
    state >"$WORK/s2"; same_file "$WORK/s1" "$WORK/s2"
    sh_ $name "systemctl is-active $UNIT; test ! -e /var/lib/omsagent/undo"
    sh_ $name "ln -sfn $ETC/$WS/conf $ETC/conf"
}

# The service account plants links where root reads; nothing of them comes out.
planted_links() {
    local as='runuser -u omsagent --'
    sh_ $name "echo SECRET-OF-ROOT >/root/secret; chmod 600 /root/secret; echo OTHER=SECRET-OF-ROOT >>/root/secret; ln -sfn /nowhere $ETC/conf
        cd $ETC/$WS/conf; $as ln -s /root/secret .multihoming_marker; $as mv omsadmin.conf kept; $as ln -s /root/secret omsadmin.conf"
    exits 0 admin $name -l; unsaid SECRET
    exits 30 admin $name "${ONBOARD[@]}"; unsaid SECRET
    sh_ $name "cd $ETC/$WS/conf; $as rm omsadmin.conf .multihoming_marker; $as mv kept omsadmin.conf
        cd ..; $as mv certs kept; $as ln -s /root certs"
    exits 30 admin $name "${ONBOARD[@]}"; unsaid SECRET
    no sh_ $name "grep -r SECRET-OF-ROOT $ETC $VAR --include='*' -s --exclude-dir=certs"
    no sh_ $name 'ls /root/oms.key /root/oms.crt'
    sh_ $name "cd $ETC/$WS; $as rm certs; $as mv kept certs; rm /root/secret"
    exits 0 admin $name "${ONBOARD[@]}"
}

upgrade_restarts_once() {
    local n
    sh_ $name "systemctl reset-failed; journalctl --rotate >/dev/null 2>&1; journalctl --vacuum-time=1s >/dev/null 2>&1; true"
    sh_ $name 'date "+%F %T" >/run/since; sleep 1'
    exits 0 bundle $name --upgrade --force
    n=$(sh_ $name "journalctl -u $UNIT --since \"\$(cat /run/since)\" -o cat | grep -c '^Started' || true")
    equal "$n" 1 'starts of the agent'
}

two_at_once() {
    sh_ $name 'cd /root; b=/mnt/dist/$1; sh "$b" --upgrade --force >/run/o1 2>&1 & p=$!; sh "$b" --upgrade --force >/run/o2 2>&1; r2=$?; wait $p; r1=$?; cat /run/o1 /run/o2; echo "codes $r1 $r2"; [ $r1 = 0 ] && [ $r2 = 0 ]' "$BUNDLE_NAME"
    sh_ $name "systemctl is-active $UNIT"
}

deleted_by_hand() {
    sh_ $name "rm -rf $ETC/$WS $VAR/$WS"
    exits 0 admin $name -x "$WS"
    no sh_ $name "ls /lib/systemd/system/$UNIT /etc/logrotate.d/omsagent-$WS /opt/microsoft/omsagent/bin/omsagent-$WS || systemctl is-active $UNIT"
    onboards
    sh_ $name "rm -rf $ETC/$WS"
    exits 0 bundle $name --purge
    inside $name list >"$WORK/now"; same_file "$WORK/clean" "$WORK/now"
    inside $name accounts | cmp - "$WORK/clean.accounts"
}

onboarding_file() { # OWNER MODE CODE PATTERN
    sh_ $name 'umask 077; printf "WORKSPACE_ID=%s\nSHARED_KEY=%s\nURL_TLD=%s\nCA_FILE=/mnt/k/ca.pem\n" "$1" "$(cat "/mnt/k/$5")" "$2" >/etc/omsagent-onboard.conf; chown "$3" /etc/omsagent-onboard.conf; chmod "$4" /etc/omsagent-onboard.conf' "$WS" "$DOMAIN" "$1" "$2" "${5:-key}"
    exits "$3" bundle $name --upgrade
    said "$4"
}
file_of_somebody() { onboarding_file nobody 600 2 'not trusted'; onboarding_file root 666 2 'not trusted'; sh_ $name "test ! -e $ETC/$WS"; }
file_with_wrong_key() { onboarding_file root 600 5 'NOT onboarded' wrong; sh_ $name 'test -e /etc/omsagent-onboard.conf'; }
file_onboards() { onboarding_file root 600 0 'Onboarding success'; no sh_ $name 'ls /etc/omsagent-onboard.conf'; sh_ $name "systemctl is-active $UNIT"; }

# Killed after 0.1, 0.2, ... s: the next run ends well; and a purge right after a kill leaves nothing.
killed() { # MODE
    local t
    for t in 0.15 0.3 0.45 0.6 0.8 1.0 1.3 1.7; do
        sh_ $name 'cd /root; setsid timeout -s KILL "$1" setsid sh "/mnt/dist/$2" --upgrade -w "$3" --shared-key-file /mnt/k/key -d "$4" --ca-file /mnt/k/ca.pem >/run/o 2>&1 & sleep "$1"; sleep 0.05; for round in 1 2 3 4 5; do for p in $(pgrep -f "^(/[^ ]*/)?(dpkg|rpm|sh|/bin/sh) .*(omsagent|rpm-tmp)|omsbundle|maintainer (postinst|prerm)"); do kill -KILL $p 2>/dev/null; done; sleep 0.05; done; true' "$t" "$BUNDLE_NAME" "$WS" "$DOMAIN" >/dev/null 2>&1 || true
        if [ "$1" = upgrade ]; then
            exits 0 bundle $name "${UPGRADE[@]}" || wrong "after $t s"
            sh_ $name "systemctl is-active $UNIT" || wrong "after $t s"
        fi
        exits 0 bundle $name --purge || wrong "purge after $t s"
        inside $name list >"$WORK/now"; same_file "$WORK/clean" "$WORK/now" || wrong "killed after $t s"
        inside $name accounts | cmp - "$WORK/clean.accounts" || wrong "accounts, killed after $t s"
    done
}

start $name
hub_start $name
inside $name list >"$WORK/clean"; inside $name accounts >"$WORK/clean.accounts"
case_ 'an account that cannot be made: 17, nothing is left of the package' configuring_fails
! is_rpm || case_ 'an rpm that was installed by hand and could not be configured is finished by the next bundle' failure_by_hand_is_mended
case_ 'an agent that does not start: nothing is left of the onboarding' start_fails
case_ 'onboarding works after that' onboards
case_ 'a failed re-onboarding: the old certificate is back, the agent runs' failed_start_keeps_the_old_pair
case_ 'a syslog daemon that does not restart: the old forwarding is back' failed_syslog_restart_keeps_the_forwarding
case_ 'a killed re-onboarding: the next command puts everything back' killed_onboarding_is_taken_back
case_ 'a re-onboarding that is ended by SIGTERM puts everything back' ended_onboarding_is_taken_back
case_ 'new settings restart the agent, the same ones do not' new_settings_reach_the_agent
case_ 'links planted by the service account lead nowhere' planted_links
case_ 'a package upgrade restarts the agent once' upgrade_restarts_once
case_ 'two bundles at once wait for each other' two_at_once
case_ 'what was deleted by hand is cleaned up behind' deleted_by_hand
case_ 'an onboarding file that not only root can change is refused' file_of_somebody
case_ 'an onboarding file with a wrong key: the bundle says so by its code' file_with_wrong_key
case_ 'an onboarding file is used, then removed' file_onboards
exits 0 bundle $name --purge
case_ 'killed at any moment, then purged: nothing is left' killed purge
case_ 'killed at any moment: the next run ends well' killed upgrade
