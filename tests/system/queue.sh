#!/bin/bash
# queue ROOT   a queue on a file system of its own that fills while the service is away: a part stays free, who sends waits, and
# all of it arrives; the agent neither ends nor forgets.
# shellcheck disable=SC2016
. "$(dirname "$(readlink -f "$0")")/lib.sh"
name=queue$$
V=/var/opt/microsoft/omsagent LINES=60000
in_() { sh_ $name "$1"; }
# Numbers that the hub has, each once.
there() { hub_query "SELECT count(DISTINCT SyslogMessage) FROM Syslog WHERE SyslogMessage LIKE '$1-%'" | tail -n 1 | tr -dc 0-9; }
free_percent() { in_ "df --output=avail,size -B1 $V/$WS/state" | awk 'NR == 2 { printf "%.2f", 100 * $1 / $2 }'; }

cat >"$WORK/k/send.pl" <<'PL'
use IO::Socket::INET; my ($mark, $n) = @ARGV;
my $s = IO::Socket::INET->new(PeerAddr => "127.0.0.1:25224", Proto => "tcp") or die;
for (1 .. $n) { print $s "<36>Oct 11 22:14:15 host send: $mark-$_ " . "x" x 400 . "\n" or die }
close $s;
PL

fills_up() {
    local mark="full-$$-$RANDOM" free
    in_ "systemctl stop $(agent_unit); rm -rf $V/$WS/state/*; mount -t tmpfs -o size=8M,mode=750,uid=\$(id -u omsagent),gid=\$(getent group omiusers | cut -d: -f3) none $V/$WS/state; systemctl start $(agent_unit)"
    hub_stop
    in_ "systemd-run --unit=send perl /mnt/k/send.pl $mark $LINES"
    for _ in $(seq 100); do ! in_ "grep -q 'cannot write to the queue.*5 % stay free' $V/$WS/log/omsagent.log" || break; sleep 0.2; done
    in_ "grep 'cannot write to the queue' $V/$WS/log/omsagent.log | tail -n 1; systemctl is-active send $(agent_unit)"
    sleep 3
    free=$(free_percent); echo "$free % free"
    # What the service takes at once may pass: a fourth of what stays free.
    awk "BEGIN { exit !($free >= 3.7 && $free < 8) }"
    in_ 'systemctl is-active send' # it waits
    hub_start $name
    in_ "systemctl kill -s HUP $(agent_unit)"
    for _ in $(seq 120); do [ "$(there "$mark")" != $LINES ] || break; sleep 0.5; done
    equal "$(there "$mark")" $LINES 'lines that arrived'
    no in_ 'systemctl is-active send'
    in_ "grep 'takes data again; 0 messages were lost' $V/$WS/log/omsagent.log"
    awk "BEGIN { exit !($(free_percent) > 40) }" # the last segment is still there
}

start $name
hub_start $name
bundle $name "${UPGRADE[@]}" >"$WORK/upgrade" 2>&1 || { cat "$WORK/upgrade"; stage_broken 'the upgrade failed'; }
case_ 'a file system that fills: a part stays free, senders wait, all arrives' fills_up
