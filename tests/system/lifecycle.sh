#!/bin/bash
# lifecycle ROOT   the whole life of the product on one system: the bundle installs, onboards and forwards; a second run
# changes nothing; remove keeps the workspace, installing again brings it back; purge leaves nothing.
. "$(dirname "$(readlink -f "$0")")/lib.sh"
name=life$$

clean_before() {
    inside $name list >"$WORK/before"; inside $name accounts >"$WORK/accounts.before"
    [ "$(wc -l <"$WORK/before")" -gt 1000 ]
    unsaid 'omsagent' "$WORK/before"
}

dry_run_changes_nothing() {
    exits 0 bundle $name "${UPGRADE[@]}" --dry-run
    unsaid "$(cat "$WORK/k/key" | cut -c1-40 | sed 's/[+/]/./g')"
    inside $name list >"$WORK/dry"; same_file "$WORK/before" "$WORK/dry"
    inside $name accounts >"$WORK/accounts.dry"; same_file "$WORK/accounts.before" "$WORK/accounts.dry"
}

upgrade() {
    exits 0 bundle $name "${UPGRADE[@]}"
    said 'OMS agent shell bundle exiting with status code 0' "$OUT.out"
    said '----- (Installing|Upgrading) package' "$OUT.out"
    cp "$OUT" "$WORK/upgrade"
}

accounts() {
    local line
    line=$(sh_ $name 'getent passwd omsagent'); echo "$line"
    [[ $line =~ ^omsagent:[^:]*:([0-9]+):[0-9]+:[^:]*:/var/opt/microsoft/omsagent/run:.*/nologin$ ]]
    [ "${BASH_REMATCH[1]}" -lt 1000 ]
    sh_ $name 'getent group omsagent; getent group omiusers'
    sh_ $name 'id -nG omsagent' | tr ' ' '\n' | grep -qx omiusers
    # The account cannot be logged in with.
    sh_ $name 'grep "^omsagent:[!*]" /etc/shadow'
}

sudo_rules() {
    sh_ $name 'visudo -cq && visudo -cqf /etc/sudoers.d/omsagent'
    equal "$(sh_ $name 'stat -c "%a %U:%G" /etc/sudoers.d/omsagent')" '440 root:root'
    # What it may, and that it may nothing else.
    sh_ $name 'cat /etc/sudoers.d/omsagent'
    no sh_ $name 'runuser -u omsagent -- sudo -n /bin/sh -c true'
    no sh_ $name 'runuser -u omsagent -- sudo -n /usr/bin/id'
    sh_ $name 'sudo -l -U omsagent' | tee "$WORK/sudo-l"
    unsaid 'NOPASSWD: ALL' "$WORK/sudo-l"
    # Everything the rules name belongs to root and no one else may write it, up to the root of the tree.
    sh_ $name 'grep -oE "/[A-Za-z0-9_./-]+" /etc/sudoers.d/omsagent | sort -u | while read -r p; do
        case $p in /etc/*) continue;; esac
        while [ "$p" != / ]; do [ ! -e "$p" ] || [ -z "$(find "$p" -maxdepth 0 \( ! -user root -o -perm /022 \) ! -type l)" ] || { echo "not root-only: $p"; exit 1; }; p=$(dirname "$p"); done; done'
}

modes() {
    sh_ $name 'cd /etc/opt/microsoft/omsagent && stat -c "%a %U:%G %n" '"$WS $WS/conf $WS/conf/omsagent.d $WS/certs $WS/conf/omsadmin.conf $WS/conf/omsagent.conf" >"$WORK/modes"
    cat "$WORK/modes"
    printf '%s\n' "750 omsagent:omiusers $WS" "750 omsagent:omiusers $WS/conf" "750 omsagent:omiusers $WS/conf/omsagent.d" \
        "700 omsagent:omiusers $WS/certs" "644 omsagent:omiusers $WS/conf/omsadmin.conf" "644 omsagent:omiusers $WS/conf/omsagent.conf" >"$WORK/modes.want"
    same_file "$WORK/modes.want" "$WORK/modes"
    # The private key is the agent's alone.
    [ -z "$(sh_ $name "find /etc/opt/microsoft/omsagent/$WS/certs -type f -perm /027")" ]
    sh_ $name "for l in /etc/opt/microsoft/omsagent/conf /etc/opt/microsoft/omsagent/certs /var/opt/microsoft/omsagent/tmp /var/opt/microsoft/omsagent/run \
        /var/opt/microsoft/omsagent/state /var/opt/microsoft/omsagent/log; do [ -L \$l ] && [ -d \$l/ ] && readlink -f \$l | grep -q $WS || { echo \"\$l is not a link to the workspace\"; exit 1; }; done"
    sh_ $name "openssl x509 -in /etc/opt/microsoft/omsagent/$WS/certs/oms.crt -noout -subject -text" >"$WORK/cert"
    said "Subject:.*CN ?= ?$WS" "$WORK/cert"; said '2048 bit' "$WORK/cert"
    [ -z "$(sh_ $name "find /opt/microsoft /etc/opt/microsoft /var/opt/microsoft -perm /002 ! -type l; find /opt/microsoft -perm /020 ! -type l; find /opt/microsoft ! -user root")" ]
}

# What no system may have, whatever starts its services.
nothing_failed() { ! has_systemd || equal "$(sh_ $name 'systemctl --failed --no-legend --plain')" ''; }
no_unit() { ! has_systemd || no sh_ $name 'systemctl list-unit-files "omsagent*" --no-legend | grep .'; }
syslog_daemon_runs() { sh_ $name 'pgrep -x rsyslogd >/dev/null || pgrep -x syslog-ng >/dev/null'; }

listens_as_omsagent() { # PID
    equal "$(sh_ $name "ps -o user= -p $1" | tr -d ' ')" omsagent "the agent's user"
    sh_ $name "ss -Hlnu 'sport = :25224'; ss -Hlnt 'sport = :25224'" | tee "$WORK/ports"
    equal "$(grep -c '127.0.0.1:25224' "$WORK/ports")" 2 'listeners on 127.0.0.1:25224 (UDP and TCP)'
    # Nothing listens to the outside.
    sh_ $name 'ss -Hlntu' | no grep -E ' (0\.0\.0\.0|\*|\[::\]):25'
}

service() {
    sh_ $name "systemctl is-enabled $(agent_unit) && systemctl is-active $(agent_unit)"
    listens_as_omsagent "$(sh_ $name "systemctl show -p MainPID --value $(agent_unit)")"
    nothing_failed
    # omsadmin.sh -l is what the world's automation reads.
    exits 0 admin $name -l
    said "^Primary Workspace: $WS    Status: Onboarded\(OMSAgent Running\)$"
}

# Where init scripts start services: the same, asked of the script.
init_script() {
    sh_ $name "test -x /etc/init.d/omsagent-$WS && ls /etc/rc2.d/S*omsagent-$WS && service omsagent-$WS status"
    listens_as_omsagent "$(sh_ $name 'pgrep -u omsagent -f bin/omsagent')"
    exits 0 admin $name -l
    said "^Primary Workspace: $WS    Status: Onboarded\(OMSAgent Running\)$"
}

forward() {
    local mark="mark-$$-$RANDOM"
    sh_ $name "logger -t rigtest -p auth.warning '$mark-auth'; logger -t rigtest -p local3.err '$mark-local'; logger -t rigtest -p user.crit '$mark-user'
               logger -t rigtest -p daemon.info '$mark-below'; logger -t rigtest -p mail.crit '$mark-mail'"
    arrives "$mark-auth" 20; arrives "$mark-local" 10; arrives "$mark-user" 10
    # Below the level, or a facility that is not asked for: stays on the host.
    absent "$mark-below"; absent "$mark-mail"
}

# As the service runs it: what is read of other users' processes, and whose file systems are seen.
counters() {
    local conf=/etc/opt/microsoft/omsagent/$WS/conf/omsagent.d/perf.conf mark="counted-$$-$RANDOM" first i
    first=$(sh_ $name 'cat /proc/1/comm')
    sh_ $name "for o in Processor Memory 'Logical Disk' 'Physical Disk' Network System Process; do
        printf '<source>\n  type oms_omi\n  object_name \"%s\"\n  interval 1s\n</source>\n' \"\$o\"; done >$conf
        omsagent config check -q && pkill -HUP -u omsagent -f bin/omsagent"
    for i in $(seq 1 100); do
        hub_query "SELECT DISTINCT 'of the ' || ObjectName AS x FROM Perf UNION SELECT 'process ' || InstanceName FROM Perf WHERE ObjectName = 'Process'
            UNION SELECT 'on ' || InstanceName FROM Perf WHERE ObjectName = 'Logical Disk'" >"$WORK/perf"
        ! grep -qx "process $first" "$WORK/perf" || ! grep -qx 'of the System' "$WORK/perf" || break
        sleep 0.2
    done
    said "^process $first\$" "$WORK/perf"
    said '^of the Processor$' "$WORK/perf"; said '^of the Memory$' "$WORK/perf"; said '^of the System$' "$WORK/perf"
    # Folders that the unit mounts for the agent alone are no file systems.
    unsaid '^on .*omsagent' "$WORK/perf"
    sh_ $name "rm $conf; pkill -HUP -u omsagent -f bin/omsagent"
    sh_ $name "logger -t rigtest -p auth.warning '$mark'"
    arrives "$mark" 20
}

heartbeat() { local i; for i in $(seq 1 70); do ! hub_query "$SQL_HEARTBEAT" | grep -q . || return 0; sleep 1; done; wrong 'no heartbeat in 70 s'; }

again_changes_nothing() {
    sleep 1
    inside $name still >"$WORK/still.1"
    ! has_systemd || grep -q 'omsagent-' "$WORK/still.1"
    exits 0 bundle $name "${UPGRADE[@]}"
    said 'OMS agent shell bundle exiting with status code 0'
    inside $name still >"$WORK/still.2"
    same_file "$WORK/still.1" "$WORK/still.2"
}

survives_a_hub_outage() {
    local mark="outage-$$-$RANDOM"
    hub_stop
    sh_ $name "logger -t rigtest -p auth.warning '$mark'"
    sleep 2
    hub_start $name
    arrives "$mark" 60
}

survives_a_restart_of_the_agent() {
    local mark="restart-$$-$RANDOM"
    if has_systemd; then sh_ $name "systemctl restart $(agent_unit)"; else agent_stop $name; agent_start $name; fi
    sh_ $name "logger -t rigtest -p auth.warning '$mark'"
    arrives "$mark" 20
}

remove_keeps_the_workspace() {
    exits 0 bundle $name --remove
    said 'OMS agent shell bundle exiting with status code 0'
    no sh_ $name 'getent passwd omsagent || getent group omsagent'
    no_unit
    no sh_ $name 'pgrep -af "[/]opt/microsoft"'
    sh_ $name "test -s /etc/opt/microsoft/omsagent/$WS/conf/omsadmin.conf && test -s /etc/opt/microsoft/omsagent/$WS/certs/oms.key"
    no sh_ $name 'ls /etc/sudoers.d/omsagent /etc/rsyslog.d/95-omsagent.conf /opt/microsoft/omsagent/bin'
    sh_ $name 'visudo -cq'
    # The syslog daemon runs on without us.
    syslog_daemon_runs
    sh_ $name 'grep -q "ended with code 0" "$(ls /var/lib/omsagent/log/bundle-*.log | tail -n 1)"'
}

install_brings_it_back() {
    local mark="back-$$-$RANDOM" guid
    guid=$(sh_ $name "grep ^AGENT_GUID= /etc/opt/microsoft/omsagent/$WS/conf/omsadmin.conf")
    exits 0 bundle $name "${UPGRADE[@]}"
    equal "$(sh_ $name "grep ^AGENT_GUID= /etc/opt/microsoft/omsagent/$WS/conf/omsadmin.conf")" "$guid" 'AGENT_GUID after installing again'
    sh_ $name 'omsagent history | grep -q " complete .* remove packages$"'
    sh_ $name "logger -t rigtest -p auth.warning '$mark'"
    arrives "$mark" 30
}

purge_leaves_nothing() {
    exits 0 bundle $name --purge
    inside $name list >"$WORK/after"; inside $name accounts >"$WORK/accounts.after"
    same_file "$WORK/accounts.before" "$WORK/accounts.after"
    same_file "$WORK/before" "$WORK/after"
    sh_ $name 'visudo -cq'
    no_unit
    nothing_failed
    no sh_ $name 'pgrep -u omsagent' 2>/dev/null
}

purge_again_is_fine() { exits 0 bundle $name --purge; }

start $name
hub_start $name
case_ 'nothing of ours at the start' clean_before
case_ '--dry-run prints a plan and changes nothing' dry_run_changes_nothing
case_ '--upgrade -w -s installs and onboards' upgrade
case_ 'accounts' accounts
case_ 'sudo rules: checked, root-owned targets, nothing else allowed' sudo_rules
case_ 'folders, modes, links, certificate' modes
if has_systemd; then case_ 'unit enabled, running as omsagent, listening on loopback only' service
else case_ 'init script registered, running as omsagent, listening on loopback only' init_script; fi
case_ 'log lines arrive; below the level and other facilities stay' forward
inside $name ours >"$WORK/state"
# Where there is no systemd there is no unit, so that state is another.
[ -z "${STATE_DIR:-}" ] || ! has_systemd || cp "$WORK/state" "$STATE_DIR/$ROOT.bundle"
case_ 'the same --upgrade again changes nothing and restarts nothing' again_changes_nothing
case_ 'lines logged while the hub is down arrive later' survives_a_hub_outage
case_ 'lines arrive after a restart of the agent' survives_a_restart_of_the_agent
case_ 'performance counters of all users, and the host as it is' counters
case_ 'heartbeat' heartbeat
case_ '--remove takes the package, keeps the workspace' remove_keeps_the_workspace
case_ 'installing again brings the workspace back' install_brings_it_back
case_ '--purge leaves nothing: files, users, groups as before' purge_leaves_nothing
case_ '--purge on a clean host is fine' purge_again_is_fine
