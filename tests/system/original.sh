#!/bin/bash
# original ROOT   hosts that have the original agent (stand-ins for its packages, original/make; its layout with identities that a
# real onboarding made, original/lay): ours comes over it, by the bundle and by dpkg or rpm alone, keeps what people have, runs, and
# takes away what the original left. `--purge` afterwards leaves what was there before the original.
. "$(dirname "$(readlink -f "$0")")/lib.sh"
ETC=/etc/opt/microsoft/omsagent VAR=/var/opt/microsoft/omsagent OPT=/opt/microsoft/omsagent
FORMAT=deb; ! is_rpm || FORMAT=rpm
# The rules that it left are kept, and they do not say how soon a closed port is tried again.
case ${ROOT:-} in *syslog-ng*) export PATIENCE=75;; esac
PACKAGE=$(find "$DIST" -maxdepth 1 -name 'omsagent_*_amd64.deb' -printf '%f\n'); ! is_rpm || PACKAGE=$(find "$DIST" -maxdepth 1 -name 'omsagent-*.x86_64.rpm' -printf '%f\n')

# --- identities that the hub knows: two workspaces onboarded once, on a system that is thrown away

identities() {
    local n=$name ws f
    exits 0 bundle $n "${UPGRADE[@]}"
    exits 0 admin $n -w "$WS2" -s KEY -d "$DOMAIN" -m second
    mkdir -p "$WORK/k/id"
    for ws in $WS $WS2; do
        mkdir -p "$WORK/k/id/$ws"
        for f in conf/omsadmin.conf certs/oms.crt certs/oms.key; do sh_ $n "cat $ETC/$ws/$f" >"$WORK/k/id/$ws/${f##*/}"; done
        [ -s "$WORK/k/id/$ws/oms.key" ]
    done
}

# --- a host with the original on it

by_hand() { if is_rpm; then sh_ "$name" "rpm $1 --nosignature $2"; else sh_ "$name" "dpkg ${3:---force-confdef} -i $2"; fi; }
up() { name=$1; start "$name"; hub_start "$name"; }
down() { hub_stop; "$RIG/down" --now "$name" >/dev/null 2>&1; }
# original MULTI|FLAT: the instance $name, listed, then with the original installed, onboarded, running.
original() {
    local p
    # Half of the world's sudoers files are read by the original as they are, the others get a block in the file itself.
    case $ROOT in trixie*) sh_ "$name" "sed -i 's/^@includedir/#includedir/' /etc/sudoers";; esac
    # The original's .debs own these folders, so dpkg removes them with the last one when they are empty.
    sh_ "$name" 'mkdir -p /opt/other /etc/opt/other /var/opt/other'
    inside "$name" list >"$WORK/before"; inside "$name" accounts >"$WORK/accounts.before"
    sh_ "$name" 'cat /etc/sudoers /etc/rsyslog.conf /etc/syslog-ng/syslog-ng.conf 2>/dev/null | sha256sum' >"$WORK/texts.before"
    for p in omi scx omsagent; do by_hand -i "/mnt/k/o/$p.$FORMAT"; done
    if [ "$1" = flat ]; then on "$name" /mnt/t/original/lay flat "$WS"; else on "$name" /mnt/t/original/lay multi "$WS" "$WS2"; fi
    # It is what it shall be: its daemon holds the port, its rules are wide.
    for _ in $(seq 1 50); do ! sh_ "$name" "ss -Hlnt 'sport = :25224'" | grep -q . || break; sleep 0.1; done
    sh_ "$name" "ss -Hlnt 'sport = :25224'" | grep -q . || wrong 'the stand-in does not run'
    sh_ "$name" 'sudo -l -U nxautomation' | grep -q 'NOPASSWD: ALL'
}

# --- what must hold afterwards

kept() { # ID...: identity byte for byte, GUID, modes, edits, old log
    local ws f
    for ws in "$@"; do
        for f in conf/omsadmin.conf certs/oms.crt certs/oms.key; do
            sh_ "$name" "cat $ETC/$ws/$f" | cmp - "$WORK/k/id/$ws/${f##*/}" || wrong "$ws: $f is another"
        done
        equal "$(sh_ "$name" "cd $ETC/$ws && stat -c '%a %U:%G' . conf certs certs/oms.key certs/oms.crt conf/omsadmin.conf" | paste -sd' ')" \
            '750 omsagent:omiusers 750 omsagent:omiusers 700 omsagent:omiusers 640 omsagent:omiusers 640 omsagent:omiusers 644 omsagent:omiusers' "looks of $ws"
        sh_ "$name" "grep -q '^# mine$' $ETC/$ws/conf/omsagent.conf" || wrong "$ws: the edit in omsagent.conf is lost"
        sh_ "$name" "head -n 1 $VAR/$ws/log/omsagent.log" | grep -qx 'an old line' || wrong "$ws: the log is lost"
        sh_ "$name" "test -s $VAR/$ws/state/out_oms_common.b1.buffer" || wrong "$ws: unsent data is lost"
    done
    sh_ "$name" "test -s $OPT/plugin/out_mine.rb"
    equal "$(sh_ "$name" "readlink $ETC/conf $VAR/log" | paste -sd' ')" "$ETC/$WS/conf $VAR/$WS/log" 'primary'
}
ours_runs() { # ID...
    local ws pid
    for ws in "$@"; do
        sh_ "$name" "systemctl is-enabled $(agent_unit "$ws") && systemctl is-active $(agent_unit "$ws")"
        pid=$(sh_ "$name" "systemctl show -p MainPID --value $(agent_unit "$ws")")
        equal "$(sh_ "$name" "readlink /proc/$pid/exe; ps -o user= -p $pid" | paste -sd' ')" "$OPT/bin/omsagent omsagent" "process of $ws"
        exits 0 admin "$name" -l
        said "$ws    Status: Onboarded\(OMSAgent Running\)$"
    done
    equal "$(sh_ "$name" 'systemctl --failed --no-legend --plain')" ''
}
records_in() { hub_query "SELECT SyslogMessage FROM Syslog WHERE WorkspaceId = '$1' AND SyslogMessage LIKE '%$mark%'" | grep -cF "$mark" || true; }
arrives_once() { # PRIORITY ID...: one record in each workspace, none twice
    local mark="orig-$$-$RANDOM" ws priority=$1; shift
    sh_ "$name" "logger -t rigtest -p $priority '$mark'; logger -t rigtest -p user.crit '$mark-unasked'"
    arrives "$mark" 60
    # Each agent sends when it has found its own way to the service.
    for ws in "$@"; do for _ in $(seq 60); do [ "$(records_in "$ws")" = 0 ] || break; sleep 1; done; done
    sleep 3
    for ws in "$@"; do equal "$(records_in "$ws")" 1 "records in $ws"; done
    # What nobody had selected is not sent.
    absent "$mark-unasked"
}
forwarding_is_ours() { # WORKSPACE...
    local f=/etc/rsyslog.d/95-omsagent.conf
    case $ROOT in *syslog-ng*) f=/etc/syslog-ng/conf.d/95-omsagent.conf; no sh_ "$name" 'grep _oms /etc/syslog-ng/syslog-ng.conf';; esac
    equal "$(sh_ "$name" "stat -c '%a %U:%G' $f")" '644 root:root' "looks of $f"
    sh_ "$name" "cat $f"
    equal "$(sh_ "$name" "grep -c '^# End of OMS Syslog collection' $f")" $# stanzas
}
gone() { # what the original left
    no sh_ "$name" "ls -d $OPT/ruby $OPT/tst $OPT/bin/troubleshooter $OPT/bin/purge_omsagent.sh $OPT/plugin/out_oms.rb /etc/cron.d/omsagent /etc/sudoers.bak \
        /var/lib/logrotate/omsagent-status /etc/logrotate.d/omsagent /etc/logrotate.d/omsagent-LAD /etc/logrotate.d/omsagent-scom 2>/dev/null | grep ."
    no sh_ "$name" "find $ETC/sysconf -name '*.original' -o -name '*.rpm*' -o -name '*.dpkg*' -o -name 'vmware*' | grep ."
    no sh_ "$name" 'find /etc/init.d /etc/rc?.d /lib/systemd/system /usr/lib/systemd/system /etc/systemd/system | grep -E "omsagent-(LAD|scom)(\.service)?$"'
    # The name without a workspace stands for all of ours now.
    sh_ "$name" 'grep -q "^Description=OMS agents of all workspaces$" /lib/systemd/system/omsagent.service && ! grep -l "bin/omsagent" /etc/init.d/omsagent'
    no sh_ "$name" 'ls -l /proc/[0-9]*/exe 2>/dev/null | grep microsoft/omsagent/ruby'
    no sh_ "$name" "grep -F 'sudo configuration for omsagent' /etc/sudoers && grep '^#includedir\|^@includedir' /etc/sudoers"
    sh_ "$name" 'visudo -cq'
    no sh_ "$name" 'sudo -l -U omsagent | grep -E "NOPASSWD: (ALL|/usr/bin/test)"'
    no sh_ "$name" 'getent passwd omsagent | grep /bin/bash'
    sh_ "$name" "grep -q '^2.0.0' $ETC/sysconf/installinfo.txt && cmp $ETC/sysconf/omsagent.d/syslog.conf /dev/stdin" <"$TOP/templates/conf/omsagent.d/syslog.conf"
}
nxautomation_gone() { no sh_ "$name" 'getent passwd nxautomation || getent group nxautomation || ls -d /home/nxautomation /etc/cron.d/OMSConsistencyInvoker 2>/dev/null | grep .'; }
no_op() {
    sleep 1
    inside "$name" still >"$WORK/still.1"
    exits 0 bundle "$name" --upgrade
    inside "$name" still >"$WORK/still.2"; same_file "$WORK/still.1" "$WORK/still.2"
}
configured_again_keeps() { # The same package once more, as an upgrade of ours will be.
    inside "$name" ours | grep -v '|/var/lib' >"$WORK/ours.1"
    if is_rpm; then sh_ "$name" "rpm -U --force --nosignature /mnt/dist/$PACKAGE"; else sh_ "$name" "dpkg -i /mnt/dist/$PACKAGE"; fi >"$OUT" 2>&1 || { cat "$OUT"; return 1; }
    unsaid 'warning|original|Retiring'
    inside "$name" ours | grep -v '|/var/lib' >"$WORK/ours.2"; same_file "$WORK/ours.1" "$WORK/ours.2"
}
purged() {
    exits 0 bundle "$name" --purge
    inside "$name" list >"$WORK/after"; inside "$name" accounts >"$WORK/accounts.after"
    same_file "$WORK/accounts.before" "$WORK/accounts.after"
    same_file "$WORK/before" "$WORK/after"
    equal "$(sh_ "$name" 'cat /etc/sudoers /etc/rsyslog.conf /etc/syslog-ng/syslog-ng.conf 2>/dev/null | sha256sum')" "$(cat "$WORK/texts.before")" 'sudoers and syslog files'
    sh_ "$name" 'visudo -cq'
}
# --- the three ways

dry_run_tells() {
    inside "$name" list >"$WORK/dry.1"
    exits 0 bundle "$name" --upgrade --dry-run
    said 'stop and remove service omsagent-LAD of the original'; said 'remove /etc/cron.d/omsagent'
    inside "$name" list >"$WORK/dry.2"; same_file "$WORK/dry.1" "$WORK/dry.2"
}
by_bundle() {
    exits 0 bundle "$name" --upgrade
    cat "$OUT"
    said 'Upgrading package omsagent'
    said 'Retiring service omsagent-LAD'; said 'diagnostics extension \(LAD\): the original.s service is gone'
    said 'out_mine.rb is not the package'; said '1 buffer files in .* had not'
    unsaid 'Creating'
}
bare() {
    if is_rpm; then exits 0 sh_ "$name" "rpm -U --nosignature /mnt/dist/$PACKAGE"; else exits 0 sh_ "$name" "dpkg -i /mnt/dist/$PACKAGE"; fi
    cat "$OUT"
}
migrated() { said 'Migrating to multi-homing folder structure' ; no sh_ "$name" "grep -q 'type syslog' $ETC/$WS/conf/omsagent.conf"
    sh_ "$name" "grep -q 'cert_path $ETC/$WS/certs/oms.crt' $ETC/$WS/conf/omsagent.conf && grep -q 'pos_file $VAR/$WS/state/mine.pos' $ETC/$WS/conf/omsagent.conf && test -s $ETC/$WS/conf/omsagent.conf.bak"; }
removed_before() {
    # It knows nothing of this one, which would keep its account in use.
    sh_ "$name" 'systemctl stop omsagent-LAD'
    if is_rpm; then sh_ "$name" 'rpm -e omsagent'; else sh_ "$name" 'dpkg -r omsagent'; fi
    no sh_ "$name" 'getent passwd omsagent'
    sh_ "$name" "find $ETC $VAR -nouser | grep -q ."
    # One of them cannot run.
    sh_ "$name" "sed -i 's/port .*/port none/' $ETC/$WS2/conf/omsagent.d/syslog.conf"
    exits 0 bundle "$name" --upgrade
    said 'Installing package: omsagent'
    equal "$(grep -c "workspace $WS2: .*syslog.conf:3: .port. is .none." "$OUT")" 1 'lines about the broken one'
}
mended() {
    sh_ "$name" "sed -i 's/port none/port 25225/' $ETC/$WS2/conf/omsagent.d/syslog.conf"
    exits 0 bundle "$name" --upgrade --force
    unsaid 'warning'
}
# omsconfig stays as it is, and with it the account and the cron file that it uses.
omsconfig_keeps() {
    sh_ "$name" 'getent passwd nxautomation; test -e /etc/cron.d/OMSConsistencyInvoker; test -x /opt/omi/bin/OMSConsistencyInvoker'
    said 'User nxautomation stays: omsconfig is installed' "$WORK/bare"
}

mkdir -p "$WORK/k/o"
"$SYS/original/make" $FORMAT "$WORK/k/o" || stage_broken 'the stand-ins were not built'
chmod -R a+rX "$WORK/k/o"
up origin$$i
case_ 'two workspaces are onboarded, their identities kept for later' identities
down

up origin$$a
case_ 'the original, multi-homed: two workspaces, scom, LAD, edits' original multi
case_ '--dry-run says what would happen, and nothing does' dry_run_tells
case_ '--upgrade takes over' by_bundle
case_ 'ids, GUIDs, keys, edits, log, plug-in are the same' kept "$WS" "$WS2"
case_ 'our agent runs for each workspace' ours_runs "$WS" "$WS2"
case_ 'its leftovers are gone' gone
case_ 'the account for runbooks is gone' nxautomation_gone
case_ 'forwarding is ours, with the selection that was there' forwarding_is_ours "$WS" "$WS2"
case_ 'a line arrives once in each workspace' arrives_once local3.info "$WS" "$WS2"
case_ 'the same --upgrade again changes nothing' no_op
case_ 'the same package again keeps all' configured_again_keeps
case_ '--purge leaves what was there before the original' purged
down

# The other situations differ by the package manager and the syslog daemon alone.
case $ROOT in trixie*) exit 0;; esac

up origin$$b
flat_with_omsconfig() { original flat; by_hand -i "/mnt/k/o/omsconfig.$FORMAT"; }
bare_kept() { bare; cp "$OUT" "$WORK/bare"; }
case_ 'the original from before multi-homing, with omsconfig' flat_with_omsconfig
case_ "dpkg -i or rpm -U alone takes over" bare_kept
cp "$WORK/bare" "$OUT" 2>/dev/null
case_ 'its workspace has folders of its own' migrated
case_ 'id, GUID, key, edits, log, plug-in are the same' kept "$WS"
case_ 'our agent runs' ours_runs "$WS"
case_ 'omsconfig, its account and its cron file stay' omsconfig_keeps
case_ 'forwarding is ours, with the selection that was there' forwarding_is_ours "$WS"
case_ 'a line arrives once' arrives_once local3.info "$WS"
case_ 'the same --upgrade again changes nothing' no_op
case_ '--purge leaves what was there before the original' purged
down

up origin$$c
case_ 'the original once more' original multi
case_ 'removed, then ours is installed; one workspace is broken and said' removed_before
case_ 'the other one runs' ours_runs "$WS"
case_ 'the broken one is mended' mended
case_ 'ids, GUIDs, keys, edits, log, plug-in are the same' kept "$WS" "$WS2"
case_ 'our agent runs for each workspace' ours_runs "$WS" "$WS2"
case_ 'its leftovers are gone' gone
case_ '--purge leaves what was there before the original' purged
down

# Cut short where the package manager does not come back by itself: rpm before its last script, dpkg before its first.
cut_short() {
    if is_rpm; then sh_ "$name" "rpm -U --noposttrans --nosignature /mnt/dist/$PACKAGE"; else sh_ "$name" "dpkg --unpack /mnt/dist/$PACKAGE"; fi
    no sh_ "$name" "grep -q '^2.0.0' $ETC/sysconf/installinfo.txt"
    exits 0 bundle "$name" --upgrade
    unsaid 'warning: '
}
up origin$$d
case_ 'the original a last time' original multi
case_ 'an upgrade that was cut short is finished by the next --upgrade' cut_short
case_ 'ids, GUIDs, keys, edits, log, plug-in are the same' kept "$WS" "$WS2"
case_ 'our agent runs for each workspace' ours_runs "$WS" "$WS2"
case_ 'its leftovers are gone' gone
case_ '--purge leaves what was there before the original' purged
