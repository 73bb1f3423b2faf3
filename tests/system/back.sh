#!/bin/bash
# back ROOT   the way back: what is wrong is told before the first change; an upgrade whose agent dies is taken back by itself;
# a good one stays, and `omsagent rollback` returns from it; a held lock of dpkg or rpm is waited for, then named.
. "$(dirname "$(readlink -f "$0")")/lib.sh"
. "$SYS/../sweep/next.sh"
name=back$$
ETC=/etc/opt/microsoft/omsagent
UNIT=$(agent_unit)
KEPT=/var/lib/omsagent/packages
NOW=$("$BINARY" --version | grep -oE '[0-9]+\.[0-9]+\.[0-9]+' | head -n 1)-1
LOCK=/var/lib/dpkg/lock-frontend TOOL=dpkg
! is_rpm || { LOCK=/var/lib/rpm/.rpm.lock TOOL=rpm; }

version() { sh_ $name 'if command -v dpkg-query >/dev/null; then dpkg-query -W -f "\${Version}" omsagent; else rpm -q --qf "%{VERSION}-%{RELEASE}" omsagent; fi'; }
kept() { sh_ $name "cd $KEPT && ls | grep -v json"; }
# Everything but what a running agent keeps for itself, and what each run wrote down of itself.
state() {
    inside $name ours; inside $name accounts; version
    inside $name list | grep -vE ' /var/opt/microsoft/omsagent/[0-9a-f-]{36}/(state|log)/| /var/lib/omsagent/[^ ]+ $'
    sh_ $name "cat $ETC/$WS/conf/*.conf | sha256sum; systemctl is-active $UNIT; systemctl is-enabled $UNIT; stat -c %a $KEPT"; kept
}
# holding LOCK SECONDS COMMAND...: while a process has that lock.
holding() {
    local lock=$1 seconds=$2; shift 2
    sh_ $name "setsid perl -e 'open(F, \"+<\", \$ARGV[0]) or die; \$l = pack(\"s s x4 q q l x4\", 1, 0, 0, 0, 0); fcntl(F, 6, \$l) or die; sleep \$ARGV[1]' $lock $seconds >/dev/null 2>&1 </dev/null & echo \$! >/run/holder; sleep 0.3; kill -0 \$(cat /run/holder)"
    "$@"
    sh_ $name 'kill "$(cat /run/holder)" 2>/dev/null; true'
}

everything_is_told_first() {
    inside $name list >"$WORK/before"
    exits 17 sh_ $name "unshare -m sh -c 'mkdir -p /opt; mount -t tmpfs -o size=1m t /opt; mount -t tmpfs -o size=1m t /etc/opt 2>/dev/null; sh /mnt/dist/$BUNDLE_NAME --upgrade'"
    said 'error	not enough space on the file system of /opt: [0-9]+ MB needed, [01] MB free' "$OUT.err"
    said 'Nothing was changed' "$OUT.err"
    exits 17 sh_ $name "unshare -m sh -c 'mount -t tmpfs -o size=1m t /opt; sh /mnt/dist/$BUNDLE_NAME --upgrade --dry-run'"
    inside $name list >"$WORK/now"; same_file "$WORK/before" "$WORK/now"
}
# What a killed run had begun to keep is gone before the space is looked at.
what_a_kill_left_takes_no_space() {
    exits 0 sh_ $name "exec unshare -m sh -ec 'mkdir -p /opt $KEPT; mount -t tmpfs -o size=64m t /opt; mkdir /opt/p; mount --bind /opt/p $KEPT
        head -c 60M /dev/zero >$KEPT/0123456789ab-omsagent.$TOOL.unfinished
        sh /mnt/dist/$BUNDLE_NAME --upgrade; test ! -e $KEPT/0123456789ab-omsagent.$TOOL.unfinished; umount $KEPT; sh /mnt/dist/$BUNDLE_NAME --purge; umount /opt'"
    inside $name list >"$WORK/now"; same_file "$WORK/before" "$WORK/now"
}
port_holder_is_named() {
    sh_ $name "setsid perl -MSocket -e 'socket(S, PF_INET, SOCK_DGRAM, 17); bind(S, sockaddr_in(25224, inet_aton(\"127.0.0.1\"))) or die; sleep 30' >/dev/null 2>&1 </dev/null & echo \$! >/run/holder; sleep 0.5"
    exits 0 bundle $name "${UPGRADE[@]}" --dry-run
    said 'warning	port 25224 is in use by process [0-9]+ \(perl\)' "$OUT.err"
    sh_ $name 'kill "$(cat /run/holder)"'
}
installs() {
    exits 0 bundle $name "${UPGRADE[@]}"
    equal "$(version)" "$NOW"; equal "$(kept | wc -l)" 1 'kept files'
    equal "$(sh_ $name "stat -c '%a %U' $KEPT")" '700 root'
    exits 1 sh_ $name 'omsagent rollback'; said 'nothing to go back to.*the first one' "$OUT.err"
    state >"$WORK/s1"
}
# The package is there, a workspace is to come: what is in its way is told all the same.
onboarding_alone_is_looked_at() {
    exits 0 bundle $name --upgrade
    sh_ $name "setsid perl -MSocket -e 'socket(S, PF_INET, SOCK_DGRAM, 17); bind(S, sockaddr_in(25224, inet_aton(\"127.0.0.1\"))) or die; sleep 30' >/dev/null 2>&1 </dev/null & echo \$! >/run/holder; sleep 0.5"
    exits 0 bundle $name --upgrade --dry-run
    unsaid 'port 25224' "$OUT.err"
    exits 0 bundle $name "${UPGRADE[@]}" --dry-run
    said 'warning	port 25224 is in use by process [0-9]+ \(perl\)' "$OUT.err"
    unsaid 'dpkg has packages' "$OUT.err"
    sh_ $name 'kill "$(cat /run/holder)"'
    exits 0 bundle $name --purge
}
dying_agent_is_taken_back() {
    exits 17 sh_ $name 'sh /mnt/k/dying.sh --upgrade --json'
    said '"exit_code":17' "$OUT.out"; said '"changed":false' "$OUT.out"
    said '"what":"check that the upgraded agent of 1 workspace is healthy","state":"(failed|undone)"' "$OUT.out"
    said "not healthy: workspace $WS.*omsagent $NOW is back and its agents run" "$OUT.err"
    state >"$WORK/s2"; same_file "$WORK/s1" "$WORK/s2"
    exits 1 sh_ $name 'omsagent rollback'
}
# Killed while it looks at the new agents: the next run looks at them before it calls the upgrade done.
killed_check_is_made_up_for() {
    # shellcheck disable=SC2016
    sh_ $name 'sh /mnt/k/dying.sh --upgrade >/run/o 2>&1 & p=$!; j=/var/lib/omsagent/journal.jsonl
        for i in $(seq 300); do tail -n 3 $j | grep -q "\"what\":\"check that the upgraded" && break; sleep 0.1; done
        kill -KILL $p $(grep -oE "\"process\":\{\"pid\":[0-9]+" $j | tail -n 1 | grep -oE "[0-9]+$"); sleep 0.5; test -e /var/lib/omsagent/unconfirmed.json'
    equal "$(version)" "$NEXT"
    exits 17 sh_ $name 'sh /mnt/k/dying.sh --upgrade'
    said "not healthy: workspace $WS.*omsagent $NOW is back and its agents run" "$OUT.err"
    no sh_ $name 'test -e /var/lib/omsagent/unconfirmed.json'
    state >"$WORK/s2"; same_file "$WORK/s1" "$WORK/s2"
    exits 1 sh_ $name 'omsagent rollback'
}
good_upgrade_stays() {
    exits 0 sh_ $name 'sh /mnt/k/next.sh --upgrade'
    said 'the upgraded agent runs; its first upload succeeded' "$OUT.out"
    equal "$(version)" "$NEXT"; equal "$(kept | wc -l)" 2 'kept files'
    sh_ $name "systemctl is-active $UNIT"
}
upgrade_without_network_stays() {
    hub_stop
    exits 0 sh_ $name 'sh /mnt/k/next.sh --upgrade'
    said 'the upgraded agent runs; it cannot upload yet: ' "$OUT.out"
    equal "$(version)" "$NEXT"
    hub_start $name
}
rollback() {
    local conf; conf=$(sh_ $name "cat $ETC/$WS/conf/*.conf $ETC/$WS/certs/* | sha256sum")
    exits 0 sh_ $name 'omsagent rollback --dry-run'; said "would set package omsagent back from $NEXT to $NOW" "$OUT.out"
    equal "$(version)" "$NEXT"
    exits 5 sh_ $name 'runuser -u nobody -- omsagent rollback'
    exits 0 sh_ $name 'omsagent rollback --json'
    said '"changed":true,"packages":\[\{"name":"omsagent","from":"'"$NEXT"'","to":"'"$NOW"'"\}\]' "$OUT.out"
    equal "$(version)" "$NOW"; sh_ $name "systemctl is-active $UNIT"
    equal "$(sh_ $name "cat $ETC/$WS/conf/*.conf $ETC/$WS/certs/* | sha256sum")" "$conf" 'settings'
    exits 1 sh_ $name 'omsagent rollback'; said 'went back already' "$OUT.err"
    equal "$(kept | wc -l)" 1 'kept files'
}
changed_file_is_refused() {
    exits 0 sh_ $name 'sh /mnt/k/next.sh --upgrade'
    sh_ $name "cd $KEPT && for f in *$NOW*[bm]; do printf x >>\"\$f\"; done"
    exits 17 sh_ $name 'omsagent rollback'; said 'SHA-256 differs' "$OUT.err"
    equal "$(version)" "$NEXT"; sh_ $name "systemctl is-active $UNIT"
}
# Nothing is kept of the version before: the new one stays, and that is said.
dying_agent_without_a_way_back() {
    exits 0 bundle $name --upgrade --force
    sh_ $name "rm -r $KEPT"
    exits 17 sh_ $name 'sh /mnt/k/dying.sh --upgrade'
    said 'No package file of omsagent .* is kept' "$OUT.out"; said "is kept on this host, so $NEXT stays" "$OUT.err"
    equal "$(version)" "$NEXT"
    exits 0 bundle $name --upgrade --force
}
lock_is_waited_for() {
    holding $LOCK 10 exits 0 bundle $name --upgrade --force
    said 'Waiting up to 120 s .*perl' "$OUT.out"
}
lock_is_named() {
    holding $LOCK 60 exits 17 bundle $name --upgrade --force --lock-timeout 2
    said "$TOOL.*lock.* is held by process [0-9]+ \(perl\); waited [23] s" "$OUT.err"
    equal "$(version)" "$NOW"; sh_ $name "systemctl is-active $UNIT"
    exits 2 bundle $name --upgrade --lock-timeout soon
}
own_lock_is_named() {
    sh_ $name 'setsid flock /run/omsagent.lock sleep 30 >/dev/null 2>&1 </dev/null & echo $! >/run/holder; sleep 0.3'
    exits 30 bundle $name --upgrade --force --lock-timeout 1
    said 'waited 1 s for the lock' "$OUT.err"
    exits 30 sh_ $name 'OMSAGENT_LOCK_TIMEOUT=1 omsagent rollback'; said 'waited 1 s for the lock' "$OUT.err"
    sh_ $name 'pkill -P "$(cat /run/holder)"; kill "$(cat /run/holder)"; true'
}
# As a dpkg leaves it that was killed while it unpacked.
cut_short() { sh_ $name "sed -i '/^Package: omsagent\$/,/^\$/s/^Status: .*/Status: install reinstreq half-installed/' /var/lib/dpkg/status; dpkg -s omsagent | grep -q reinstreq"; }
identity() { sh_ $name "cd $ETC/$WS && sha256sum conf/omsadmin.conf certs/oms.crt certs/oms.key"; }
remove_keeps_the_identity() {
    local id; id=$(identity)
    cut_short
    exits 0 bundle $name --remove
    equal "$(identity)" "$id" 'identity'
    no sh_ $name 'dpkg -s omsagent | grep -E "reinstreq|half-"'
    exits 0 bundle $name --upgrade
    equal "$(identity)" "$id" 'identity'
    sh_ $name "systemctl is-active $UNIT"
}
# Nothing was installed: the way back does not wait for the lock as well.
lock_is_waited_for_once() {
    exits 0 bundle $name --purge
    holding $LOCK 60 exits 17 bundle $name --upgrade --lock-timeout 2
    equal "$(grep -c '^Waiting up to 2 s' "$OUT")" 1 'waits'
    unsaid 'not taken back'
    no sh_ $name 'ls -d /var/lib/omsagent/packages'
}
purge_leaves_nothing() { exits 0 bundle $name --purge; no sh_ $name 'ls -d /var/lib/omsagent'; }

next_bundle "$WORK/k"
# An agent that does not know a word of its own unit ends at once, whatever starts it.
next_bundle "$WORK/k" dying 's/no-supervisor/no-superwisor/g' 's/%CONF% --no-superwisor/%CONF% --no-supervisor/'
start $name
hub_start $name
case_ 'too little space is told with numbers, and nothing is changed' everything_is_told_first
case_ 'what a killed run left takes no space' what_a_kill_left_takes_no_space
case_ 'a port that somebody has is told with its holder' port_holder_is_named
case_ 'onboarding alone is looked at before it begins' onboarding_alone_is_looked_at
case_ 'what is installed is kept' installs
case_ 'an upgrade whose agent dies is taken back by itself' dying_agent_is_taken_back
case_ 'a check of the agents that was cut short by a kill is made up for' killed_check_is_made_up_for
case_ 'a good upgrade stays' good_upgrade_stays
case_ 'rollback goes back once, settings stay' rollback
case_ 'an upgrade without a way to the service stays' upgrade_without_network_stays
case_ 'a kept file that was changed is not installed' changed_file_is_refused
case_ 'an agent that dies with nothing to go back to: the new version stays' dying_agent_without_a_way_back
case_ 'a held lock is waited for' lock_is_waited_for
case_ 'a lock that stays held is named' lock_is_named
case_ 'another omsagent command is named' own_lock_is_named
is_rpm || case_ 'a removal of what dpkg had half unpacked keeps the identity' remove_keeps_the_identity
case_ 'a purge takes the kept packages along' purge_leaves_nothing
case_ 'a fresh installation waits once for a held lock' lock_is_waited_for_once
