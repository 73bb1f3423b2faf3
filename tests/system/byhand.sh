#!/bin/bash
# byhand ROOT   without the bundle's help: the extracted package through dpkg or rpm, then omsadmin.sh. Same end state as the
# bundle's, and the package manager alone cleans up.
. "$(dirname "$(readlink -f "$0")")/lib.sh"
name=hand$$

extract() {
    exits 0 sh_ $name "mkdir -p /root/x && cd /root/x && sh /mnt/dist/$BUNDLE_NAME --extract"
    sh_ $name 'cd /root/x && find . | sort' | tee "$WORK/tree"
    local kind=deb; ! is_rpm || kind=rpm
    grep -qE "^\./omsbundle\.[0-9]+/100/omsagent-2\.0\.0-1\.universal\.x64\.$kind$" "$WORK/tree"
    # The two other folder names that scripts look into lead to the same packages.
    sh_ $name 'cd /root/x/omsbundle.*/ && for d in 110 300; do for f in deb rpm; do cmp 100/omsagent-2.0.0-1.universal.x64.$f $d/omsagent-2.0.0-1.universal.x64.$f || exit 1; done; done'
}

install() {
    if is_rpm; then sh_ $name 'TZ=Asia/Tokyo rpm -Uvh /root/x/omsbundle.*/100/omsagent-*.rpm'
    else sh_ $name 'TZ=Asia/Tokyo dpkg -i /root/x/omsbundle.*/100/omsagent-*.deb'; fi
    # The time that it notes is UTC, as it says, wherever the installer sits.
    local noted; noted=$(sh_ $name 'date -d "$(sed -n 2p /etc/opt/microsoft/omsagent/sysconf/installinfo.txt)" +%s')
    [ $(($(date +%s) - noted)) -lt 300 ] || wrong "installinfo.txt notes another time: $noted"
    sh_ $name 'rm -rf /root/x'
    # Installed, not onboarded: says so, runs nothing.
    exits 0 admin $name -l
    said '^No Workspace$'
    no sh_ $name 'pgrep -u omsagent'
}

onboard() {
    exits 0 admin $name -w "$WS" -s KEY -d "$DOMAIN" --ca-file /mnt/k/ca.pem
    said 'Onboarding success'
    sh_ $name "systemctl is-enabled $(agent_unit) && systemctl is-active $(agent_unit)"
}

forward() { local mark="hand-$$-$RANDOM"; sh_ $name "logger -t rigtest -p auth.warning '$mark'"; arrives "$mark" 20; }

# The same root, the other way: what the bundle leaves.
bundle_state() {
    local other=hand$$b
    hub_stop; start $other; hub_start $other
    bundle $other "${UPGRADE[@]}" >"$OUT" 2>&1 || { cat "$OUT"; return 1; }
    inside $other ours >"$WORK/state.bundle"
    "$RIG/down" --now $other
    hub_start $name
}
same_state() {
    inside $name ours >"$WORK/state"
    [ -z "${STATE_DIR:-}" ] || cp "$WORK/state" "$STATE_DIR/$ROOT.byhand"
    [ "$(wc -l <"$WORK/state.bundle")" -gt 20 ]
    same_file "$WORK/state.bundle" "$WORK/state"
}

remove() {
    if is_rpm; then
        sh_ $name 'rpm -e omsagent'
        # rpm knows no purge: configuration and state of the workspace stay, everything that installing made is gone.
        inside $name list | diff "$WORK/before" - | grep '^[<>]' | grep -vE "^> . [0-9]+ [^ ]+ (/etc/opt/microsoft|/var/opt/microsoft)" >"$WORK/rest" || true
        cat "$WORK/rest"; [ ! -s "$WORK/rest" ]
        sh_ $name "test -s /etc/opt/microsoft/omsagent/$WS/conf/omsadmin.conf"
    else
        sh_ $name 'dpkg -P omsagent'
        inside $name list >"$WORK/after"; same_file "$WORK/before" "$WORK/after"
    fi
    inside $name accounts >"$WORK/accounts.after"; same_file "$WORK/accounts.before" "$WORK/accounts.after"
    sh_ $name 'visudo -cq'
    no sh_ $name 'systemctl list-unit-files "omsagent*" --no-legend | grep .'
    no sh_ $name 'pgrep -af "[/]opt/microsoft"'
    equal "$(sh_ $name 'systemctl --failed --no-legend --plain')" ''
}

onboarding_file() {
    sh_ $name "printf 'WORKSPACE_ID=%s\nSHARED_KEY=%s\nURL_TLD=%s\nCA_FILE=%s\n' $WS \"\$(cat /mnt/k/key)\" $DOMAIN /mnt/k/ca.pem >/etc/omsagent-onboard.conf; chmod 600 /etc/omsagent-onboard.conf"
    if is_rpm; then sh_ $name 'rpm -Uvh /root/p.rpm'; else sh_ $name 'dpkg -i /root/p.deb'; fi
    sh_ $name "systemctl is-active $(agent_unit) && test ! -e /etc/omsagent-onboard.conf"
}

start $name
hub_start $name
inside $name list >"$WORK/before"; inside $name accounts >"$WORK/accounts.before"
case_ '--extract lays out omsbundle.<pid>/{100,110,300}' extract
sh_ $name 'cp /root/x/omsbundle.*/100/omsagent-*.deb /run/p.deb; cp /root/x/omsbundle.*/100/omsagent-*.rpm /run/p.rpm' 2>/dev/null
case_ 'the extracted package installs with dpkg or rpm alone' install
case_ 'omsadmin.sh -w -s -d onboards' onboard
case_ 'a log line arrives' forward
bundle_state
case_ 'the same end state as the bundle' same_state
case_ 'dpkg -P or rpm -e alone cleans up' remove
sh_ $name 'rm -rf /etc/opt/microsoft /var/opt/microsoft; mv /run/p.deb /run/p.rpm /root/' 2>/dev/null
case_ 'an onboarding file is used at installation, and gone after' onboarding_file
