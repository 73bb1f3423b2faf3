#!/bin/bash
# doctor ROOT   `omsagent status` and `omsagent doctor` on a booted system: nothing is found on a healthy one; then faults are
# planted one by one: each is found by its id, nothing else is, and it is mended by --fix where that is promised.
# On bookworm all of them; elsewhere those that differ with the daemon or the package manager (FEW).
# shellcheck disable=SC2016,SC2034,SC2086
. "$(dirname "$(readlink -f "$0")")/lib.sh"
name=doc$$
E=/etc/opt/microsoft/omsagent V=/var/opt/microsoft/omsagent O=/opt/microsoft/omsagent W=$E/$WS
FEW='unit-missing agent-stopped logrotate-missing sudo-missing sudo-changed key-open package-file-changed package-file-missing syslog-not-forwarding
    syslog-broken syslog-file-look certificate-mismatch endpoint-closed'
: >"$WORK/planted"; : >"$WORK/found"; : >"$WORK/false"; : >"$WORK/fixable"; : >"$WORK/mended"

# doctor WORDS...: its object in $WORK/d.json, its code in $RC; fails when it did not come to an object of that code.
doctor() {
    RC=0
    sh_ $name 'omsagent doctor --json "$@"' "$@" >"$WORK/d.json" 2>"$WORK/d.err" || RC=$?
    cat "$WORK/d.json" "$WORK/d.err"
    equal "$(python3 -c 'import json,sys; print(json.load(open(sys.argv[1]))["exit_code"])' "$WORK/d.json")" $RC 'exit code in the object'
}
ids() { python3 -c 'import json,sys; [print(i) for i in sorted({f["id"] for f in json.load(open(sys.argv[1]))["findings"]})]' "$WORK/d.json"; }
clean() { doctor "$@"; equal "$(ids)" '' 'findings'; equal $RC 0 'exit code'; }

# fault ID WORDS COMES_ALONG PLANT RESTORE [AFTER]: PLANT and RESTORE are sh inside; RESTORE `fix` is doctor --fix. What else may
# be found beside it is in COMES_ALONG.
fault() {
    local id=$1 words=$2 along=" $3 " plant=$4 restore=$5 after=${6:-} extra='' i
    [ "$ROOT" = bookworm ] || case " $(echo $FEW) " in *" $id "*) ;; *) return 0;; esac
    case_ "fault $id" one_fault "$@"
}
one_fault() {
    local id=$1 words=$2 along=" $3 " plant=$4 restore=$5 after=${6:-} extra='' i
    echo "$id" >>"$WORK/planted"
    [ "$restore" != fix ] || echo "$id" >>"$WORK/fixable"
    set -- $words
    # Faults planted one after the other start the agent more often than systemd allows.
    sh_ $name 'systemctl reset-failed'
    eval "$plant"
    doctor "$@"
    for i in $(ids); do
        if [ "$i" = "$id" ]; then echo "$id" >>"$WORK/found"; continue; fi
        case $along in *" $i "*) ;; *) extra+=" $i"; echo "$id:$i" >>"$WORK/false";; esac
    done
    if [ "$restore" = fix ]; then
        doctor "$@" --fix || true
        [ -n "$(ids)" ] || echo "$id" >>"$WORK/mended"
        ids | no grep -x "$id"
    else
        eval "$restore"
    fi
    sh_ $name 'systemctl reset-failed'
    [ -z "$after" ] || eval "$after"
    clean "$@"
    grep -qx "$id" "$WORK/found" || wrong "$id was not found"
    equal "$extra" '' 'found beside it'
}
in_() { sh_ $name "$1"; }
back() { in_ "cp -a /root/safe/etc/. $E/"; }
expired() {
    in_ "cd /root && rm -rf ca && mkdir ca && cd ca && : >index && echo 01 >serial && openssl req -new -key $W/certs/oms.key -subj /CN=$WS -out r.csr 2>/dev/null &&
        printf '[ca]\ndefault_ca=d\n[d]\ndatabase=index\nserial=serial\nnew_certs_dir=.\npolicy=p\ndefault_md=sha256\n[p]\ncommonName=supplied\n' >c &&
        openssl ca -batch -config c -selfsign -keyfile $W/certs/oms.key -in r.csr -startdate 200101000000Z -enddate 210101000000Z -notext -out o.pem >/dev/null 2>&1 &&
        cat o.pem >$W/certs/oms.crt"
}
other_pair() {
    in_ "cd /root && openssl req -x509 -newkey rsa:2048 -nodes -keyout k.pem -out c.pem -days 90 -subj /CN=$WS >/dev/null 2>&1 && cat k.pem >$W/certs/oms.key && cat c.pem >$W/certs/oms.crt"
}

healthy() {
    clean; clean --install
    sh_ $name 'omsagent doctor'; sh_ $name 'omsagent doctor --fix' | tail -n 1 | grep -F '0 errors, 0 warnings'
    # The message it sent arrived like any other.
    arrives 'test message' 10
    # Nobody else may look; exit code 3.
    exits 3 sh_ $name 'runuser -u nobody -- omsagent doctor'
}
offline_is_quick() {
    hub_stop; sh_ $name 'systemctl reset-failed'
    local t0=$SECONDS
    exits 2 sh_ $name 'omsagent doctor'
    [ $((SECONDS - t0)) -lt 15 ] || wrong "it took $((SECONDS - t0)) s"
    hub_start $name
    sh_ $name "systemctl reload $(agent_unit) 2>/dev/null || systemctl restart $(agent_unit)"; sleep 3
}
other_role() {
    local t0=$SECONDS
    exits 2 sh_ $name 'runuser -u nobody -- omsagent doctor --role console'
    said 'ERROR +(dns-fails|endpoint-silent): .*login.windows.net'
    [ $((SECONDS - t0)) -lt 15 ] || wrong "it took $((SECONDS - t0)) s"
}
status_tells() {
    sh_ $name 'omsagent status --json' >"$WORK/s.json"; cat "$WORK/s.json"
    python3 - "$WORK/s.json" <<'PY'
import json, sys
s = json.load(open(sys.argv[1])); w, = s["workspaces"]
assert s["complete"] and w["running"] and w["enabled"] and w["onboarded"] and w["role"] == "primary", w
assert w["unknown"] == [] and w["heartbeat_accepted"] and w["certificate"]["days_left"] >= 364, w
syslog, = [i for i in w["inputs"] if i["type"] == "syslog"]
assert syslog["received"] == syslog["parsed"] + syslog["dropped"] and syslog["received"] > 0, syslog
assert 0 < syslog["sent"] <= syslog["queued"], syslog
assert sum(o["sent"] for o in w["outputs"]) > 0 and all(o["failures_in_a_row"] == 0 for o in w["outputs"]), w
assert any(o["last_upload"] and o["last_upload"]["code"] == 200 for o in w["outputs"]), w
assert {l["address"] for l in w["listening"]} == {"127.0.0.1:25224"} and abs(w["clock"]["ahead_seconds"]) < 60, w
assert w["process"]["rss_kib"] < 16000, w
PY
    sh_ $name 'omsagent status'
    # Somebody without rights sees what anybody may see, and is told what not.
    sh_ $name 'runuser -u nobody -- omsagent status --json' >"$WORK/u.json"
    python3 -c 'import json,sys; s=json.load(open(sys.argv[1])); w,=s["workspaces"]; assert not s["complete"] and w["running"] and w["unknown"] and w["process"]["pid"], w' "$WORK/u.json"
    equal "$(sh_ $name "stat -c '%a %U:%G' $V/$WS/run/omsagent.sock")" '660 omsagent:omiusers' 'look of the socket'
    sh_ $name 'systemctl stop omsagent-*'; no sh_ $name "test -e $V/$WS/run/omsagent.sock"
    exits 1 sh_ $name 'omsagent status'; said inactive
    sh_ $name "systemctl start $(agent_unit)"
}
many_quickly() {
    local id ms ids="$WS2 00000002-2222-3333-4444-555555555555 00000003-2222-3333-4444-555555555555 00000004-2222-3333-4444-555555555555"
    for id in $ids; do
        [ $id = "$WS2" ] || hub workspace add --data "$HUB_DATA" --id $id --shared-key-file "$WORK/k/key" >/dev/null
        in_ "echo 127.0.0.1 $id.oms.$DOMAIN $id.ods.$DOMAIN >>/etc/hosts"
        admin $name -w $id -s KEY -d "$DOMAIN" -m "also $id" >/dev/null
    done
    ms=$(in_ 'best=999999; for i in $(seq 20); do a=$(date +%s%N); omsagent status >/dev/null; b=$(date +%s%N); d=$(((b - a) / 1000000)); [ $d -ge $best ] || best=$d; done; echo $best')
    echo "status: $ms ms for five workspaces" | tee "$WORK/many"
    [ "$ms" -le 100 ]
    in_ 'omsagent status --json' | python3 -c 'import json,sys; w=json.load(sys.stdin)["workspaces"]; assert [x["role"] for x in w]==["primary"]+4*["secondary"] and all(x["running"] and not x["unknown"] for x in w), w'
    clean
    for id in $ids; do admin $name -x $id >/dev/null; done
}
summary() {
    local planted found false_ fixable mended
    planted=$(sort -u "$WORK/planted" | wc -l) found=$(sort -u "$WORK/found" | wc -l) false_=$(wc -l <"$WORK/false")
    fixable=$(sort -u "$WORK/fixable" | wc -l) mended=$(sort -u "$WORK/mended" | wc -l)
    echo "doctor $ROOT: $found of $planted planted faults found, $false_ false; $mended of $fixable mended by --fix"
    [ "$planted" -ge "$1" ] || wrong "only $planted faults planted"
    equal "$found" "$planted" found; equal "$false_" 0 'false findings'; equal "$mended" "$fixable" mended
}

start $name
hub_start $name
bundle $name "${UPGRADE[@]}" >"$WORK/upgrade" 2>&1 || { cat "$WORK/upgrade"; stage_broken 'the upgrade failed'; }
in_ "mkdir -p /root/safe && cp -a $E /root/safe/etc && cp -a /etc/hosts /root/safe/hosts && cp -a $O/bin/service_control /root/safe/"
U=$(in_ "systemctl show -p FragmentPath $(agent_unit)"); U=${U#*=}
RSYSLOG=/etc/rsyslog.d OURS=/etc/rsyslog.d/95-omsagent.conf
in_ "test -e $OURS" || { RSYSLOG=/etc/syslog-ng/conf.d; OURS=$(in_ 'ls /etc/syslog-ng/conf.d/95-omsagent.conf 2>/dev/null || echo /etc/syslog-ng/syslog-ng.conf'); }
echo 'use IO::Socket::INET; my $s = IO::Socket::INET->new(LocalAddr => "127.0.0.1:25224", Proto => "udp"); sleep 999;' >"$WORK/k/thief.pl"
# say.pl PORT LINE: answers everybody with that line.
cat >"$WORK/k/say.pl" <<'PL'
use IO::Socket::INET; my ($port, $line) = @ARGV;
my $s = IO::Socket::INET->new(LocalAddr => "127.0.0.1:$port", Proto => "tcp", Listen => 5, ReuseAddr => 1) or die;
while (my $c = $s->accept) { sysread $c, my $buffer, 4096; print $c "$line\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"; close $c }
PL
# A run of a process that died in an earlier boot.
echo '{"time":"2026-01-01T00:00:00Z","run":"r1","event":"run","what":"test","version":"2.0.0-1","process":{"pid":1,"start":1,"boot":"b"},"cut_short":"take-back"}' >"$WORK/k/cut"
sleep 5

case_ 'a healthy host: nothing found, exit 0; root only' healthy
case_ 'status: every field, and what somebody without rights sees' status_tells
case_ 'five workspaces: all told, in 100 ms; nothing found' many_quickly
sed -n 's/^/   /p' "$WORK/many" 2>/dev/null
I=--install
fault unit-missing $I '' 'in_ "rm $U; systemctl daemon-reload"' fix
fault unit-disabled $I '' 'in_ "systemctl disable $(agent_unit) 2>/dev/null"' fix
fault unit-changed $I '' 'in_ "sed -i s/RestartSec=10/RestartSec=11/ $U; systemctl daemon-reload"' fix
fault unit-not-reloaded $I '' 'sleep 1; in_ "touch $U"' 'in_ "systemctl daemon-reload"'
fault agent-stopped $I '' 'in_ "systemctl stop $(agent_unit)"' fix
fault agent-stuck $I '' 'sleep 5; in_ "kill -STOP \$(systemctl show -p MainPID --value $(agent_unit))"' 'in_ "kill -CONT \$(systemctl show -p MainPID --value $(agent_unit))"'
fault agent-outdated $I '' 'in_ "cp -a $O/bin/omsagent $O/bin/x && mv $O/bin/x $O/bin/omsagent"' 'in_ "systemctl restart $(agent_unit)"'
fault logrotate-missing $I '' 'in_ "rm /etc/logrotate.d/omsagent-$WS"' fix
fault logrotate-look $I '' 'in_ "chmod 666 /etc/logrotate.d/omsagent-$WS"' fix
fault sudo-missing $I '' 'in_ "rm /etc/sudoers.d/omsagent"' fix
fault sudo-changed $I '' 'in_ "echo \"omsagent ALL=(ALL) NOPASSWD: ALL\" >>/etc/sudoers.d/omsagent"' fix
fault sudo-invalid $I '' 'in_ "echo nonsense here >/etc/sudoers.d/zz; chmod 440 /etc/sudoers.d/zz"' 'in_ "rm /etc/sudoers.d/zz"'
fault folder-look $I '' 'in_ "chmod 755 $W/certs"' fix
fault folder-missing $I '' 'in_ "rm -r $V/$WS/tmp"' fix
fault key-open $I '' 'in_ "chmod 644 $W/certs/oms.key"' fix
fault file-owner $I '' 'in_ "chown root:root $W/certs/oms.key"' fix
fault file-open $I '' 'in_ "chmod 666 $W/conf/omsadmin.conf"' fix
fault proxy-open $I '' 'in_ "echo proxy.test:3128 >$E/proxy.conf; chmod 644 $E/proxy.conf; chown omsagent:omiusers $E/proxy.conf"' fix 'in_ "rm $E/proxy.conf"'
fault proxy-mistake $I '' 'in_ "echo socks://x >$E/proxy.conf; chmod 600 $E/proxy.conf; chown omsagent:omiusers $E/proxy.conf"' 'in_ "rm $E/proxy.conf"'
fault program-open $I '' 'in_ "chmod 777 $O/bin"' fix
fault primary-link $I '' 'in_ "rm $E/conf; ln -s /nowhere $V/tmp.x; mv -T $V/tmp.x $V/tmp"' fix
fault program-link $I '' 'in_ "rm $O/bin/omsagent-$WS"' fix
fault installinfo-missing $I '' 'in_ "rm $E/sysconf/installinfo.txt"' fix
fault package-file-missing $I '' 'in_ "rm $E/sysconf/omsagent.d/monitor.conf"' back
fault package-file-changed $I '' 'in_ "echo \"# more\" >>$O/bin/service_control"' 'in_ "cp -a /root/safe/service_control $O/bin/"'
fault account-can-login $I '' 'in_ "usermod -s /bin/bash omsagent"' 'in_ "usermod -s /usr/sbin/nologin omsagent"'
fault certificate-expired $I '' expired back
fault certificate-missing $I '' 'in_ ": >$W/certs/oms.crt"' back
fault certificate-mismatch $I '' 'in_ "openssl genrsa 2048 2>/dev/null >/root/k.pem; cat /root/k.pem >$W/certs/oms.key"' back
fault certificate-renewal $I '' 'in_ "touch -d \"1 hour ago\" $W/certs/oms.renewal"' 'in_ "rm -f $W/certs/oms.renewal"'
fault settings-broken $I '' 'in_ ": >$W/conf/omsadmin.conf"' back
fault config-mistake $I '' 'in_ "sed -i \"s/port 25224/port none/\" $W/conf/omsagent.d/syslog.conf"' back
fault config-ignored $I '' 'in_ "printf \"<source>\\n  type nosuch\\n</source>\\n\" >$W/conf/omsagent.d/x.conf; chown omsagent:omiusers $W/conf/omsagent.d/x.conf"' 'in_ "rm $W/conf/omsagent.d/x.conf"'
fault syslog-not-forwarding $I 'syslog-broken' 'in_ "sed -i /127.0.0.1/d $OURS"' fix
fault syslog-twice $I '' 'in_ "echo \"*.warning @127.0.0.1:25224\" >/etc/rsyslog.d/10-own.conf"' 'in_ "rm /etc/rsyslog.d/10-own.conf"'
fault syslog-broken $I '' 'in_ "echo \"module(load=nosuch\" >$RSYSLOG/10-own.conf"' 'in_ "rm $RSYSLOG/10-own.conf"'
fault syslog-stopped $I '' 'in_ "systemctl stop syslog.socket rsyslog.service"' 'in_ "systemctl start rsyslog.service"'
fault syslog-file-look $I '' 'in_ "chown omsagent:omiusers $OURS"' fix
fault syslog-remains $I '' 'in_ "cp -a /etc/rsyslog.conf /root/safe/; echo \"# OMS Syslog collection for workspace $NOWS\" >>/etc/rsyslog.conf"' 'in_ "cp -a /root/safe/rsyslog.conf /etc/"'
fault port-taken $I 'agent-stopped' 'in_ "systemctl stop $(agent_unit); systemd-run --unit=thief perl /mnt/k/thief.pl; sleep 1"' \
    'in_ "systemctl stop thief; systemctl start $(agent_unit)"'
fault disk-full $I '' 'in_ "mount -t tmpfs -o size=1M,mode=750,uid=\$(id -u omsagent),gid=\$(getent group omiusers | cut -d: -f3) none $V/$WS/state"' 'in_ "umount $V/$WS/state"'
fault workspace-remains $I '' 'in_ "cp $U /etc/systemd/system/omsagent-$NOWS.service"' 'in_ "rm /etc/systemd/system/omsagent-$NOWS.service"'
fault original-remains $I '' 'in_ "echo \"* * * * * root true\" >/etc/cron.d/omsagent"' fix
fault unfinished-file $I '' 'in_ ": >/etc/sudoers.d/.omsagent.abc.omsagent-new"' fix
fault run-unfinished $I '' 'in_ "cat /mnt/k/cut >>/var/lib/omsagent/journal.jsonl"' fix
fault onboarding-file-left $I '' 'in_ ": >/etc/omsagent-onboard.conf"' 'in_ "rm /etc/omsagent-onboard.conf"'
selfmade() { # START END CN: a certificate of the key that is there
    in_ "cd /root && rm -rf ca && mkdir ca && cd ca && : >index && echo 01 >serial && openssl req -new -key $W/certs/oms.key -subj /CN=$3 -out r.csr 2>/dev/null &&
        printf '[ca]\ndefault_ca=d\n[d]\ndatabase=index\nserial=serial\nnew_certs_dir=.\npolicy=p\ndefault_md=sha256\n[p]\ncommonName=supplied\n' >c &&
        openssl ca -batch -config c -selfsign -keyfile $W/certs/oms.key -in r.csr -startdate $1 -enddate $2 -notext -out o.pem >/dev/null 2>&1 && cat o.pem >$W/certs/oms.crt"
}
day() { date -u -d "$1" +%y%m%d%H%M%SZ; }
fault ca-unusable $I '' 'in_ "cp -a $E/ca.pem /root/ca.away; echo nonsense >$E/ca.pem"' 'in_ "mv /root/ca.away $E/ca.pem"'
! in_ 'test -s /sys/devices/virtual/dmi/id/product_uuid' || fault host-copied $I '' 'in_ "sed -i s/^UUID=.*/UUID=deadbeef-0000-4000-8000-000000000001/ $W/conf/omsadmin.conf"' back
fault certificate-expires $I '' 'selfmade "$(day "300 days ago")" "$(day "10 days")" $WS' back
fault certificate-not-yet $I '' 'selfmade "$(day "2 days")" "$(day "300 days")" $WS' back
fault certificate-foreign $I '' 'selfmade "$(day "2 days ago")" "$(day "300 days")" $NOWS' back
fault certificate-unreadable $I '' 'in_ "head -c 900 /dev/urandom >$W/certs/oms.crt"' back
fault key-missing $I '' 'in_ ": >$W/certs/oms.key"' back
fault config-missing $I '' 'in_ "rm $W/conf/omsagent.conf"' fix
fault account-group $I '' 'in_ "cp -a /etc/passwd /root/safe/passwd; sed -i \"s/^\(omsagent:[^:]*:[0-9]*\):[0-9]*:/\1:65534:/\" /etc/passwd"' 'in_ "cat /root/safe/passwd >/etc/passwd"'
fault group-missing $I '' 'in_ "groupdel omsagent"' fix
fault disk-low $I '' 'in_ "mount -t tmpfs -o size=30M,mode=750,uid=\$(id -u omsagent),gid=\$(getent group omiusers | cut -d: -f3) none $V/$WS/state"' 'in_ "umount $V/$WS/state"'
fault disk-read-only $I '' 'in_ "mount --bind $V/$WS/state $V/$WS/state; mount -o remount,ro,bind $V/$WS/state"' 'in_ "umount $V/$WS/state"'
fault log-large $I '' 'in_ "truncate -s 1200M $V/$WS/log/omsagent.log"' 'in_ "truncate -s 0 $V/$WS/log/omsagent.log"'
fault port-open $I '' 'in_ "sed -i \"s/bind 127.0.0.1/bind 0.0.0.0/\" $W/conf/omsagent.d/syslog.conf; systemctl restart $(agent_unit)"; sleep 1' 'back; in_ "systemctl restart $(agent_unit)"; sleep 1'
fault port-closed $I 'syslog-not-forwarding' 'in_ "sed -i \"s/port 25224/port 25299/\" $W/conf/omsagent.d/syslog.conf"' back
fault agent-restarts $I '' 'for i in 1 2 3; do in_ "kill -9 \$(systemctl show -p MainPID --value $(agent_unit))"; sleep 12; done' 'in_ "systemctl restart $(agent_unit)"'
again='in_ "systemctl restart $(agent_unit)"; sleep 4'
fault dns-fails '' 'upload-failing chain-not-sent' 'in_ "sed s/$WS.ods.$DOMAIN/x.$DOMAIN/ /root/safe/hosts >/etc/hosts"' 'in_ "cat /root/safe/hosts >/etc/hosts"' "$again"
fault endpoint-closed '' 'upload-failing chain-not-sent' 'hub_stop' 'hub_start $name' "$again"
fault tls-untrusted '' 'upload-failing chain-not-sent' 'in_ "mv $E/ca.pem /root/ca.away"' 'in_ "mv /root/ca.away $E/ca.pem"' "$again"
fault tls-name '' 'upload-failing chain-not-sent' 'in_ "cat /root/safe/hosts >/etc/hosts; echo 127.0.0.1 other.test >>/etc/hosts; sed -i s/$WS.ods.$DOMAIN/other.test/ $W/conf/omsadmin.conf"' 'in_ "cat /root/safe/hosts >/etc/hosts"; back' "$again"
fault proxy-unreachable '' 'upload-failing chain-not-sent' 'in_ "echo 127.0.0.1:1 >$E/proxy.conf; chmod 600 $E/proxy.conf; chown omsagent:omiusers $E/proxy.conf"' 'in_ "rm $E/proxy.conf"' "$again"
proxy_() { in_ "echo $1 >$E/proxy.conf; chmod 600 $E/proxy.conf; chown omsagent:omiusers $E/proxy.conf"; }
no_proxy='in_ "rm $E/proxy.conf; systemctl stop said 2>/dev/null || true"'
fault proxy-dns '' 'upload-failing chain-not-sent' 'proxy_ no.such.proxy.test:3128' "$no_proxy" "$again"
fault proxy-auth '' 'upload-failing chain-not-sent' 'proxy_ u:wrong@127.0.0.1:3128; in_ "systemd-run --unit=said perl /mnt/k/say.pl 3128 \"HTTP/1.1 407 Proxy Authentication Required\"; sleep 1"' "$no_proxy" "$again"
fault proxy-refuses '' 'upload-failing chain-not-sent' 'proxy_ 127.0.0.1:3128; in_ "systemd-run --unit=said perl /mnt/k/say.pl 3128 \"HTTP/1.1 403 Forbidden\"; sleep 1"' "$no_proxy" "$again"
fault route-missing '' 'upload-failing chain-not-sent' 'in_ "sed s/^127.0.0.1/203.0.113.5/ /root/safe/hosts >/etc/hosts"' 'in_ "cat /root/safe/hosts >/etc/hosts"' "$again"
instead() { # COMMAND: it, in place of the hub
    hub_stop; in_ "systemd-run --unit=said $1; sleep 1"
}
hub_again='in_ "systemctl stop said 2>/dev/null || true"; hub_start $name'
fault tls-failed '' 'upload-failing chain-not-sent' 'instead "perl /mnt/k/say.pl 443 \"HTTP/1.1 400 Bad Request\""' "$hub_again" "$again"
server_cert() { # START END: for every name of the hub's, by its own authority
    (cd "$WORK/k" && rm -rf sca && mkdir sca && cd sca && : >index && echo 0a >serial && openssl req -newkey rsa:2048 -nodes -keyout ../srv.key -subj /CN=hub -out r.csr 2>/dev/null &&
        printf '[ca]\ndefault_ca=d\n[d]\ndatabase=index\nserial=serial\nnew_certs_dir=.\npolicy=p\ndefault_md=sha256\nx509_extensions=e\n[p]\ncommonName=supplied\n[e]\nsubjectAltName=DNS:*.oms.%s,DNS:*.ods.%s\n' "$DOMAIN" "$DOMAIN" >c &&
        openssl ca -batch -config c -cert "$HUB_DATA/ca/ca.pem" -keyfile "$HUB_DATA/ca/ca.key" -in r.csr -startdate "$1" -enddate "$2" -notext -out ../srv.pem >/dev/null 2>&1)
}
S='openssl s_server -quiet -accept 127.0.0.1:443 -cert /mnt/k/srv.pem -key /mnt/k/srv.key -www'
fault tls-time '' 'upload-failing chain-not-sent' 'server_cert "$(day "300 days ago")" "$(day "10 days ago")"; instead "$S"' "$hub_again" "$again"
fault tls-old '' 'upload-failing chain-not-sent' 'server_cert "$(day "300 days ago")" "$(day "100 days")"; instead "$S -tls1_1 -cipher ALL:@SECLEVEL=0"' "$hub_again" "$again"
fault proxy-tls '' 'upload-failing chain-not-sent' 'server_cert "$(day "300 days ago")" "$(day "100 days")"; proxy_ https://127.0.0.1:3128; in_ "systemd-run --unit=said ${S/:443/:3128}; sleep 1"' "$no_proxy" "$again"
fault service-refuses '' 'upload-failing chain-not-sent' other_pair back "$again"
fault chain-not-received '' '' 'in_ "echo \"user.* stop\" >/etc/rsyslog.d/01-own.conf; systemctl restart rsyslog"' 'in_ "rm /etc/rsyslog.d/01-own.conf; systemctl restart rsyslog"'
small_queue() { # 64 KiB, and nobody who takes anything
    hub_stop; in_ "sed -i 's/buffer_chunk_limit 15m/buffer_chunk_limit 64k/; s/buffer_queue_limit 10/buffer_queue_limit 1/' $W/conf/omsagent.conf; systemctl restart $(agent_unit)"; sleep 1
}
fill() { # LINES
    in_ "perl -MIO::Socket::INET -e 'my \$s = IO::Socket::INET->new(PeerAddr => \"127.0.0.1:25224\", Proto => \"udp\"); for (1..$1) { print \$s \"<13>Oct 11 22:14:15 host fill: \" . \"x\" x 300; select undef, undef, undef, 0.002 }'"; sleep 0.3
}
nearly_full() {
    local bytes
    for _ in $(seq 40); do
        bytes=$(in_ 'omsagent status --json' | python3 -c 'import json,sys; print(json.load(sys.stdin)["workspaces"][0]["outputs"][1]["queue_bytes"])')
        [ "$bytes" -le 54000 ] || return 0
        fill 8
    done
}
whole='hub_start $name; back; in_ "systemctl restart $(agent_unit)"; sleep 4'
fault queue-full '' 'records-dropped upload-failing endpoint-closed chain-not-sent' 'small_queue; nearly_full' "$whole"
fault records-dropped '' 'queue-full upload-failing endpoint-closed chain-not-sent' 'small_queue; fill 400' "$whole"
fault lines-not-understood '' '' 'in_ "perl -MIO::Socket::INET -e '"'"'my \$s = IO::Socket::INET->new(PeerAddr => \"127.0.0.1:25224\", Proto => \"udp\"); for (1..400) { print \$s \"no priority\"; select undef, undef, undef, 0.002 }'"'"'"; sleep 1' 'in_ "systemctl restart $(agent_unit)"; sleep 4'
fault upload-failing '' 'endpoint-closed chain-not-sent' 'hub_stop; in_ "systemctl restart $(agent_unit)"; sleep 4' 'hub_start $name' "$again"
skewed=$TOP/target/debug/omsagent faketime=$(find /usr/lib -name libfaketime.so.1 | sed -n 1p)
# A static program takes no preloaded clock: the hub of this fault is the debug build.
if [ -x "$skewed" ] && [ -n "$faketime" ]; then
    fault clock-off '' 'upload-failing chain-not-sent service-refuses' 'HUB_BINARY=$skewed; hub_start $name env LD_PRELOAD="$faketime" FAKETIME=+2h' 'HUB_BINARY=$BINARY; hub_start $name' "$again"
else
    echo "   SKIPPED: clock-off needs target/debug/omsagent and libfaketime"
    [ "${CI:-}" != true ] || stage_broken 'a fault cannot be planted'
fi
case_ 'without the service it is done in 15 s' offline_is_quick
case_ 'the endpoints of another role, without root and without a network' other_role
case $ROOT in bookworm) least=80;; *) least=12;; esac
case_ 'all planted faults, none false' summary $least
sed -n '/^doctor/p' "$WORK/case"
