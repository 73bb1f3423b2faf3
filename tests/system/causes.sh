#!/bin/bash
# causes ROOT   why an onboarding fails, one cause after the other: a real proxy (squid: plain, with users, behind TLS, closed,
# opening TLS), the hub behind it, and `odd`, whose services misbehave each in its way. Each cause is met twice: by a host that
# is not onboarded, and by one that is and whose agent runs. Asserted: exit code, the original's words, the cause's name, and
# that the host is to the byte and inode what it was. At the end: every cause of docs/exit-codes.md was met, no password was seen.
. "$(dirname "$(readlink -f "$0")")/lib.sh"
name=causes$$ slow=causeslow$$
SQUID_ROOT=bookworm+pkg-squid-openssl
ETC=/etc/opt/microsoft/omsagent
S=$WORK/squid

# --- certificates: an authority for services and the proxy, one that opens TLS, and wrong ones

make_certificates() {
    local c=$WORK/certs n
    mkdir -p "$c"
    authority() { openssl req -x509 -newkey rsa:2048 -nodes -days 3650 -subj "$2" -keyout "$c/$1.key" -out "$c/$1.pem" 2>>"$c/log"; }
    leaf() { # NAME AUTHORITY SAN [PREFIX...]
        local n=$1 ca=$2 san=$3; shift 3
        openssl req -newkey rsa:2048 -nodes -subj "/CN=odd" -keyout "$c/$n.key" -out "$c/$n.csr" 2>>"$c/log"
        "$@" openssl x509 -req -in "$c/$n.csr" -CA "$c/$ca.pem" -CAkey "$c/$ca.key" -days 30 -extfile <(printf 'subjectAltName=%s\n' "$san") -out "$c/$n.pem" 2>>"$c/log"
    }
    local ours="DNS:*.oms.$DOMAIN,DNS:*.ods.$DOMAIN,DNS:proxy.test,IP:127.0.0.1" fake
    fake=$(find /usr/lib -name libfaketime.so.1 | sed -n 1p)
    [ -n "$fake" ] || stage_broken 'libfaketime is missing (make setup)'
    authority service '/O=Test/CN=Service Authority'
    authority inspector '/O=Corp/CN=Corp TLS Inspection'
    authority unknown '/O=Elsewhere/CN=Unknown Authority'
    leaf good service "$ours"
    leaf other service 'DNS:*.oms.other.test'
    leaf expired service "$ours" env LD_PRELOAD="$fake" FAKETIME=-400d
    leaf notyet service "$ours" env LD_PRELOAD="$fake" FAKETIME=+400d
    leaf stranger unknown "$ours"
    openssl req -x509 -newkey rsa:2048 -nodes -days 30 -subj '/CN=odd-self' -addext "subjectAltName=$ours" -addext basicConstraints=critical,CA:FALSE -keyout "$c/self.key" -out "$c/self.pem" 2>>"$c/log"
    for n in good other expired notyet stranger self; do [ -s "$c/$n.pem" ] || { cat "$c/log" >&2; stage_broken "no certificate $n"; }; done
}

# --- the services and proxies beside an instance, in its network

odd_start() { # NAME
    "$RIG/netexec" "$1" -- "$SYS/odd" "$WORK/certs" "$WORK/ports" >"$WORK/odd.log.$1" 2>&1 &
    echo $! >>"$WORK/pids"
    for _ in $(seq 1 100); do [ ! -s "$WORK/ports" ] || return 0; sleep 0.1; done
    cat "$WORK/odd.log.$1" >&2; stage_broken 'odd does not serve'
}
port() { sed -n "s/^$1 //p" "$WORK/ports"; }

# squid out of a root of its own, writing to a copy of it; its network is the instance's.
PLAIN=3128 USERS=3129 SECURE=3130 CLOSED=3131 OPENS=3132
squid_start() { # NAME
    local root; root=$("$RIG/mkroot" "$SQUID_ROOT" 2>"$WORK/mkroot" | tail -n 1)
    [ -x "$root/usr/sbin/squid" ] || return 1
    mkdir -p "$S"/{conf,rw,wk,root}; chmod 777 "$S/conf"
    cat "$WORK/certs/good.pem" "$WORK/certs/good.key" >"$S/conf/proxy.pem"
    cat "$WORK/certs/inspector.pem" "$WORK/certs/inspector.key" >"$S/conf/inspector.pem"
    cat "$WORK/certs/service.pem" "$WORK/k/ca.pem" >"$S/conf/trusted.pem"
    printf '%s:%s\n' plain "$(openssl passwd -apr1 "$PASSWORD")" colon "$(openssl passwd -apr1 "co:$PASSWORD:on")" signs "$(openssl passwd -apr1 "at@$PASSWORD%20")" unseen "$(openssl passwd -apr1 "$UNSEEN")" written "$(openssl passwd -apr1 "at%40$PASSWORD")" >"$S/conf/users"
    printf '%s\t%s\n' 127.0.0.1 localhost 127.0.0.1 "$WS.oms.$DOMAIN" 127.0.0.1 "$WS.ods.$DOMAIN" ::1 "$WS2.oms.$DOMAIN" ::1 "$WS2.ods.$DOMAIN" >"$S/conf/hosts"
    cat >"$S/conf/squid.conf" <<X
http_port 127.0.0.1:$PLAIN
http_port [::1]:$PLAIN
http_port 127.0.0.1:$USERS
https_port 127.0.0.1:$SECURE tls-cert=/mnt/proxy.pem
http_port 127.0.0.1:$CLOSED
http_port 127.0.0.1:$OPENS ssl-bump generate-host-certificates=on dynamic_cert_mem_cache_size=1MB tls-cert=/mnt/inspector.pem
sslcrtd_program /usr/lib/squid/security_file_certgen -s /run/certs -M 4MB
sslcrtd_children 1
tls_outgoing_options cafile=/mnt/trusted.pem
auth_param basic program /usr/lib/squid/basic_ncsa_auth /mnt/users
auth_param basic children 1
acl asks localport $USERS $SECURE
acl closed localport $CLOSED
acl opens localport $OPENS
acl users proxy_auth REQUIRED
acl first at_step SslBump1
ssl_bump peek first opens
ssl_bump bump opens
ssl_bump none all
http_access deny closed
http_access allow asks users
http_access deny asks
http_access allow all
hosts_file /mnt/hosts
cache deny all
pid_filename none
access_log stdio:/mnt/access.log
cache_log /mnt/cache.log
visible_hostname proxy.test
shutdown_lifetime 0 seconds
X
    # shellcheck disable=SC2016
    "$RIG/netexec" "$1" -- unshare --mount --propagation private sh -c '
        mount -t overlay overlay -o "lowerdir=$1,upperdir=$2/rw,workdir=$2/wk" "$2/root" && cd "$2/root" &&
        mount --bind "$2/conf" mnt && mount -t proc proc proc && mount --rbind /dev dev && mount -t tmpfs -o mode=755 tmpfs run &&
        chroot . /usr/lib/squid/security_file_certgen -c -s /run/certs -M 4MB && chown -R --reference=var/spool/squid run/certs &&
        exec chroot . /usr/sbin/squid -N -f /mnt/squid.conf' sh "$root" "$S" >"$S/out" 2>&1 &
    echo $! >>"$WORK/pids"
    for _ in $(seq 1 150); do
        [ "$("$RIG/netexec" "$1" -- ss -Hltn "sport >= :$PLAIN and sport <= :$OPENS" | wc -l)" -lt 6 ] || return 0
        sleep 0.1
    done
    cat "$S/out" "$S/conf/cache.log" >&2; stage_broken 'squid does not serve'
}
servants_stop() {
    local p
    while read -r p; do kill "$p" 2>/dev/null || true; done <"$WORK/pids"
    : >"$WORK/pids"
}
finish_all() { local rc=$?; servants_stop; (exit $rc); finish; }
: >"$WORK/pids"
trap finish_all EXIT

# --- what a case says

# state NAME: everything of ours on the host, by inode, size and times; who runs. What the running agent writes is its business.
state() {
    sh_ "$1" "find $ETC /var/opt/microsoft/omsagent /opt/microsoft/omsagent/bin /etc/omsagent-onboard.conf /etc/rsyslog.d /etc/rsyslog.conf /etc/logrotate.d \
            /etc/systemd/system \( -path '*/state' -o -path '*/log' \) -prune -o -printf '%p %y %m %U:%G %i %s %T@ %C@ %l\n' 2>/dev/null | sort
        ls -A /var/lib/omsagent/undo 2>/dev/null; systemctl show -p MainPID -p NRestarts $(agent_unit) rsyslog.service"
}
HOST=$name
# tried CODE CAUSE PATTERN WORDS...: omsadmin.sh fails so, and the host stays what it was.
tried() {
    local code=$1 cause=$2 pattern=$3; shift 3
    state $HOST >"$WORK/before.$HOST"
    exits "$code" admin $HOST -w "$WS" -s KEY "$@"
    told "$cause" "$pattern"
    state $HOST >"$WORK/after.$HOST"
    same_file "$WORK/before.$HOST" "$WORK/after.$HOST"
}
# told CAUSE PATTERN: one line of error, whole, with the cause's name; no password, no panic.
told() {
    echo "$1" >>"$WORK/met"
    equal "$(grep -c "^error	" "$OUT")" 1 'lines of error'
    said "^error	.*Cause: .*\. \[$1\]$"
    said "$2"
    unsaid "panicked|RUST_BACKTRACE|$PASSWORD|$WRONG_PASSWORD"
}
# The ca-file is another one each time: else a running agent of the same settings has nothing to be onboarded to.
CAS=(--ca-file /mnt/k/other.pem)
at_service() { # CODE CAUSE PATTERN SERVICE: one of odd's, met without a proxy
    local code=$1 cause=$2 pattern=$3 service=$4
    tried "$code" "$cause" "$pattern" -d "$DOMAIN:$(port "$service")" "${CAS[@]}"
}
at_proxy() { # CODE CAUSE PATTERN PROXY-LINE
    local code=$1 cause=$2 pattern=$3 line=$4
    tried "$code" "$cause" "$pattern" -d "$DOMAIN" "${CAS[@]}" -p "$line"
}

THROUGH='^error	Error connecting to OMS service through proxy: curl returned'
DURING='^error	Error during the onboarding request: curl returned'
CODE='^error	Error onboarding. HTTP code'

at_proxies() {
    at_proxy 4 proxy-auth "$THROUGH 56\. Verify the proxy\. Cause: the proxy .127.0.0.1. port $USERS wants a user and a password \(407\)" "127.0.0.1:$USERS"
    at_proxy 4 proxy-auth "the proxy .127.0.0.1. port $USERS does not accept the user and password given \(407\): set them with -p" "plain:$WRONG_PASSWORD@127.0.0.1:$USERS"
    at_proxy 4 proxy-auth "does not accept the user and password given" "http://signs:at%40$WRONG_PASSWORD@127.0.0.1:$USERS"
    at_proxy 4 proxy-connect "$THROUGH 7\. Verify the proxy\. Cause: cannot connect to the proxy .127.0.0.1. port $(port closed): connection refused" "plain:$PASSWORD@127.0.0.1:$(port closed)"
    at_proxy 4 proxy-connect "cannot connect to the proxy .::1. port $(port closed): connection refused" "[::1]:$(port closed)"
    at_proxy 4 proxy-dns '^error	Proxy could not be resolved during the onboarding request: curl returned 5\. Verify the proxy\. Cause: the name .no-such-proxy.test. of the proxy does not resolve' "http://plain:$PASSWORD@no-such-proxy.test:3128"
    at_proxy 4 proxy-refused "the proxy .127.0.0.1. port $CLOSED refuses a connection to .$WS.oms.$DOMAIN:443. \(403\): let the proxy allow it" "127.0.0.1:$CLOSED"
    at_proxy 4 proxy-refused 'does not answer like a proxy' "127.0.0.1:$(port proxy-rubbish)"
    at_proxy 4 proxy-refused 'closed the connection when asked for' "127.0.0.1:$(port proxy-hangs-up)"
    at_proxy 4 proxy-refused '\(503\)' "127.0.0.1:$(port proxy-bad-gateway)"
    at_proxy 4 proxy-setting '^error	The proxy setting is not valid\. Cause: the proxy given: only an HTTP proxy' "socks://plain:$PASSWORD@127.0.0.1:1"
    at_proxy 4 proxy-setting 'a port that is no number' "plain:$PASSWORD@127.0.0.1:x"
    at_proxy 4 proxy-setting 'in a password write it as %40' "plain:at@$PASSWORD@127.0.0.1:$USERS"
    # The proxy's own certificate: of an authority that this host does not know; then for another name.
    tried 4 proxy-tls "$THROUGH 60\. Verify the proxy\. Cause: no TLS with the proxy .127.0.0.1. port $SECURE: the certificate of .127.0.0.1. was issued by \"O=Test, CN=Service Authority\", which this host does not trust: trust the proxy's authority with --ca-file" \
        -d "$DOMAIN" --ca-file /mnt/k/ca.pem2 -p "https://plain:$PASSWORD@127.0.0.1:$SECURE"
    at_proxy 4 proxy-tls 'is for another name: it is valid for .*proxy.test' "https://plain:$PASSWORD@localhost:$SECURE"
    at_proxy 4 proxy-auth 'does not accept the user and password given' "https://plain:$WRONG_PASSWORD@proxy.test:$SECURE"
    # One that opens TLS: its authority is named, and the way out.
    at_proxy 8 tls-untrusted "$DURING 60\. .* Cause: the certificate of .$WS.oms.$DOMAIN. was issued by \"O=Corp, CN=Corp TLS Inspection\", which this host does not trust: .*TLS inspection.*--ca-file" "127.0.0.1:$OPENS"
}
setting_in_a_file() { # a proxy.conf of each kind, by hand; then it goes
    local text cause pattern
    while IFS='|' read -r cause text pattern; do
        # shellcheck disable=SC2059
        printf "$text" >"$WORK/k/proxy.conf"
        sh_ $HOST "cp /mnt/k/proxy.conf $ETC/proxy.conf; chown omsagent:omiusers $ETC/proxy.conf"
        case $cause in proxy-setting) tried 4 "$cause" "$pattern" -d "$DOMAIN" "${CAS[@]}";; *) tried 4 "$cause" "$pattern" -d "$DOMAIN" "${CAS[@]}"; said "^info	Using proxy settings from '$ETC/proxy.conf'$";; esac
    done <<X
proxy-setting|rubbish rubbish\\n|.$ETC/proxy.conf.: a blank or control character
proxy-setting|a:1\\nb:2\\n|.$ETC/proxy.conf.: more than one proxy line
proxy-setting|\\377\\376\\000|.$ETC/proxy.conf.: not UTF-8 text
proxy-setting|ftp://u:$PASSWORD@h:1|.$ETC/proxy.conf.: only an HTTP proxy can be used
proxy-auth|# ours\\r\\n\\r\\nhttp://plain:$WRONG_PASSWORD@127.0.0.1:$USERS/\\r\\n|does not accept
proxy-connect|\\357\\273\\277HTTP://127.0.0.1:$(port closed)\\n# end|connection refused
X
    sh_ $HOST "rm $ETC/proxy.conf; mkdir $ETC/proxy.conf"
    tried 4 proxy-setting 'not a regular file' -d "$DOMAIN" "${CAS[@]}"
    sh_ $HOST "rmdir $ETC/proxy.conf"
}
in_the_old_place() { # through the primary's link, where there is one
    local made=; sh_ $HOST "test -e $ETC/conf" || made=$ETC/conf
    sh_ $HOST "mkdir -p $ETC/conf; printf 'http://127.0.0.1:$CLOSED' >$ETC/conf/proxy.conf"
    tried 4 proxy-refused "^info	Using proxy settings from '$ETC/conf/proxy.conf'$" -d "$DOMAIN" "${CAS[@]}"
    sh_ $HOST "printf '127.0.0.1:$(port closed)' >$ETC/proxy.conf; chown omsagent $ETC/proxy.conf"
    tried 4 proxy-connect "^info	Using proxy settings from '$ETC/proxy.conf'$" -d "$DOMAIN" "${CAS[@]}"
    sh_ $HOST "rm -r $ETC/conf/proxy.conf $ETC/proxy.conf $made"
}
# in_environment VARIABLES WORDS...: omsadmin.sh with them set.
in_environment() {
    local set=$1; shift
    # shellcheck disable=SC2016
    sh_ $HOST 'set_=$1; shift; export $set_; exec sh /opt/microsoft/omsagent/bin/omsadmin.sh -w "$1" -s "$(cat /mnt/k/key)" -d "$2" --ca-file /mnt/k/other.pem' "$set" "$WS" "$DOMAIN"
}
precedence() {
    state $HOST >"$WORK/before.$HOST"
    exits 4 in_environment "HTTPS_PROXY=http://plain:$WRONG_PASSWORD@127.0.0.1:$USERS/"
    told proxy-auth "^info	Using proxy settings from 'HTTPS_PROXY'$"
    exits 4 in_environment "HTTPS_PROXY=127.0.0.1:$USERS https_proxy=127.0.0.1:$CLOSED"
    told proxy-refused "^info	Using proxy settings from 'https_proxy'$"
    exits 4 in_environment "HTTPS_PROXY=socks5://127.0.0.1:1"
    told proxy-setting 'the variable HTTPS_PROXY: only an HTTP proxy'
    state $HOST >"$WORK/after.$HOST"; same_file "$WORK/before.$HOST" "$WORK/after.$HOST"
    # The proxy would refuse; without it nothing answers at 443 while the hub is away.
    exits 8 in_environment "HTTPS_PROXY=127.0.0.1:$CLOSED NO_PROXY=other.test,.$DOMAIN"
    told connect "^info	Not using the proxy of HTTPS_PROXY: NO_PROXY names $WS.oms.$DOMAIN$"
    sh_ $HOST "printf '127.0.0.1:$(port closed)' >$ETC/proxy.conf; chown omsagent $ETC/proxy.conf"
    exits 4 in_environment "HTTPS_PROXY=127.0.0.1:$CLOSED NO_PROXY=*"
    told proxy-connect "^info	HTTPS_PROXY is left aside: $ETC/proxy.conf comes first$"
    sh_ $HOST "rm $ETC/proxy.conf"
}
at_services() {
    at_service 5 clock-skew "$CODE 403, Reason: ClockSkew\. Check the Workspace ID, .* Cause: the clock of this host is 20 minutes ahead of the service's: correct it" clock-ahead
    at_service 5 clock-skew "the clock of this host is 20 minutes behind the service's" clock-behind
    at_service 5 clock-skew 'the service finds the clock of this host wrong' clock-unmeasured
    at_service 5 wrong-key "$CODE 403, Reason: InvalidWorkspaceKey\..* Cause: the key is not one of this workspace's" wrong-key
    at_service 5 wrong-key 'the key is not one .*; and the clock of this host is 9 minutes ahead' wrong-key-and-clock
    at_service 5 unknown-workspace 'the service knows no workspace of this ID' unknown-workspace
    at_service 5 disabled 'is switched off at the service' disabled
    at_service 5 incomplete-system 'name, vendor or version of this system' incomplete-system
    at_service 5 altered 'did not arrive as it was sent' altered
    at_service 5 refused 'Reason: Something\[31m new\.' refused
    at_service 5 forbidden 'Reason: \. .*gives no reason.*a proxy or firewall on the way answered in its place' forbidden
    at_service 6 redirected "$CODE 302\. Cause: something on the way redirects" redirected
    at_service 6 not-the-service "$CODE 404\. Cause: what answers at this name is not a workspace service" not-found
    at_service 6 odd-status "$CODE 418\." odd-status
    at_service 6 service-fault "$CODE 500\." fault
    at_service 6 busy "$CODE 503\. Cause: the service is busy" busy
    at_service 8 tls-name "$DURING 60\..* is for another name: it is valid for \*\.oms\.other\.test" other-name
    at_service 8 tls-time 'expired on 20.* \(this host.s clock says 20' expired
    at_service 8 tls-time 'is not valid before 20.* \(this host.s clock says 20.*correct the clock of this host' not-yet
    at_service 8 tls-untrusted 'is self-signed by "CN=odd-self", which this host does not trust' self-signed
    at_service 8 tls-untrusted 'was issued by "O=Elsewhere, CN=Unknown Authority".*TLS inspection' stranger
    at_service 8 tls-old "$DURING 35\..* does not speak TLS 1\.2 or newer" tls-old
    at_service 8 not-tls "$DURING 35\..* does not speak TLS: check the domain" plain-http
    at_service 8 not-http "$DURING 56\..* closed the connection without an answer" hangs-up
    at_service 8 not-http 'was cut off after' cut-off
    at_service 8 not-http 'cannot be used' no-http
    at_service 8 connect "$DURING 7\..* (broke off the TLS handshake|connection closed)" at-once
    at_service 8 connect "cannot connect to .$WS.oms.$DOMAIN. port $(port closed): connection refused" closed
}
before_the_wire() {
    state $HOST >"$WORK/before.$HOST"
    exits 3 admin $HOST -w not-a-guid -s KEY; told workspace-id '^error	The Workspace ID is not valid\.'
    exits 3 admin $HOST -w "$WS" -s 'no*base64'; told key-invalid '^error	The Shared Key is not valid\.'
    exits 3 admin $HOST -w "$WS" -s ' '; told key-missing '^error	Missing Workspace ID or Shared Key information for onboarding\.'
    exits 3 admin $HOST -w "$WS" -s KEY -d 'https://x' "${CAS[@]}"; told domain '^error	The domain is not valid\.'
    exits 7 admin $HOST -w "$NOWS" -s KEY -d "$DOMAIN" "${CAS[@]}"
    told dns "^error	Error resolving host during the onboarding request\. Check the correctness of the workspace ID and the internet connectivity, or add a proxy\. Cause: the name .$NOWS.oms.$DOMAIN. does not resolve"
    state $HOST >"$WORK/after.$HOST"; same_file "$WORK/before.$HOST" "$WORK/after.$HOST"
}
at_the_hub() { # the real service's own words
    tried 5 wrong-key 'Reason: InvalidWorkspaceKey' -s WRONG -d "$DOMAIN" "${CAS[@]}"
    tried 5 wrong-key 'Reason: InvalidWorkspaceKey' -s WRONG -d "$DOMAIN" "${CAS[@]}" -p "plain:$PASSWORD@127.0.0.1:$USERS"
    sh_ $HOST "printf '127.0.0.1\t$NOWS.oms.$DOMAIN\n' >>/etc/hosts"
    state $HOST >"$WORK/before.$HOST"
    exits 5 admin $HOST -w "$NOWS" -s KEY -d "$DOMAIN" "${CAS[@]}"; told unknown-workspace 'Reason: UnknownWorkspace'
    state $HOST >"$WORK/after.$HOST"; same_file "$WORK/before.$HOST" "$WORK/after.$HOST"
    sh_ $HOST "grep -v $NOWS /etc/hosts >/run/h; cat /run/h >/etc/hosts"
}
clocks() { # the hub believes another time: 20 minutes, both ways
    local debug=$TOP/target/debug/omsagent fake way said_
    fake=$(find /usr/lib -name libfaketime.so.1 | sed -n 1p)
    [ -x "$debug" ] || { echo 'target/debug/omsagent is missing: a static program takes no preloaded clock'; return 1; }
    for way in +20m:behind -20m:ahead; do
        said_=${way#*:}
        HUB_BINARY=$debug hub_start $HOST env LD_PRELOAD="$fake" FAKETIME="${way%:*}"
        tried 5 clock-skew "HTTP code 403, Reason: ClockSkew\. .*the clock of this host is 20 minutes $said_" -d "$DOMAIN" "${CAS[@]}"
    done
    hub_start $HOST
}
timeouts() { # on the other host, beside the rest
    local d="$DOMAIN:"
    HOST=$slow OUT=$WORK/out.slow
    tried 8 timeout "$DURING 28\..* did not finish the TLS handshake within 30 s" -d "$d$(port tls-mute)" "${CAS[@]}"
    tried 8 timeout 'did not answer within 60 s' -d "$d$(port mute)" "${CAS[@]}"
    tried 8 timeout 'does not answer \(a firewall may drop the connection\)' -d "$d$(port hole)" "${CAS[@]}"
    tried 4 proxy-connect 'cannot connect to the proxy .127.0.0.1. port [0-9]+: it does not answer' -d "$DOMAIN" "${CAS[@]}" -p "plain:$PASSWORD@127.0.0.1:$(port hole)"
    tried 8 timeout 'the proxy .127.0.0.1. port [0-9]+ did not connect to .* in time' -d "$DOMAIN" "${CAS[@]}" -p "127.0.0.1:$(port proxy-mute)"
}
slow_story() {
    bundle $slow --upgrade >"$WORK/install.slow" 2>&1 || { cat "$WORK/install.slow"; return 1; }
    ( set -eEo pipefail; trap 'echo "failed: line $LINENO: $BASH_COMMAND"' ERR; timeouts )
}

# onboards PROXY [WORDS...]: through it, from nothing, and back to nothing; what is sent arrives, so the agent takes it too.
onboards() {
    local line=$1; shift
    exits 0 admin $HOST -w "$WS" -s KEY -d "$DOMAIN" "${CAS[@]}" -p "$line" "$@"
    said '^info	Onboarding success$'
    unsaid "$PASSWORD|^(warning|error)	"
    equal "$(sh_ $HOST "cat $ETC/proxy.conf; stat -c %a:%U $ETC/proxy.conf")" "${line}600:omsagent"
    echo "$line" >>"$WORK/lines"
    local text; text="through proxy $(wc -l <"$WORK/lines")"
    sh_ $HOST "logger -p user.err '$text'"
    arrives "$text" 30
    forget
}
forget() { exits 0 admin $HOST -X; sh_ $HOST "rm -f $ETC/proxy.conf $ETC/ca.pem"; }
# names_known yes|no: where they are not, only the proxy knows the service's address.
names_known() {
    case $1 in
        no) sh_ $HOST "test -e /run/hosts.kept || cp /etc/hosts /run/hosts.kept; grep -v $DOMAIN /run/hosts.kept >/etc/hosts";;
        yes) sh_ $HOST 'cat /run/hosts.kept >/etc/hosts';;
    esac
}
through_proxies() {
    names_known no
    onboards "127.0.0.1:$PLAIN"
    onboards "http://[::1]:$PLAIN"
    onboards "plain:$PASSWORD@127.0.0.1:$USERS"
    onboards "http://colon:co:$PASSWORD:on@127.0.0.1:$USERS"
    onboards "signs:at%40$PASSWORD%2520@127.0.0.1:$USERS"
    onboards "written:at%40$PASSWORD@127.0.0.1:$USERS"
    onboards "https://plain:$PASSWORD@proxy.test:$SECURE"
}
old_https() { # a proxy that speaks no TLS: as before there were others
    exits 0 admin $HOST -w "$WS" -s KEY -d "$DOMAIN" "${CAS[@]}" -p "https://plain:$PASSWORD@127.0.0.1:$USERS"
    said '^warning	the proxy .127.0.0.1. port '"$USERS"' is written with https:// and speaks no TLS: it is spoken to in the clear, its user and password too'
    unsaid "$PASSWORD"
    forget
}
from_old_place() { # before there was a workspace: its folder gives way to the link
    names_known no
    sh_ $HOST "mkdir $ETC/conf; printf '127.0.0.1:$PLAIN' >$ETC/conf/proxy.conf"
    exits 0 admin $HOST -w "$WS" -s KEY -d "$DOMAIN" "${CAS[@]}"
    said "^info	Using proxy settings from '$ETC/conf/proxy.conf'$"
    equal "$(sh_ $HOST "cat $ETC/proxy.conf; readlink $ETC/conf; ls $ETC/conf/proxy.conf 2>/dev/null || true")" "127.0.0.1:$PLAIN$ETC/$WS/conf" 'the new place'
    names_known yes
    forget
    # Something else there is told before the service is asked.
    sh_ $HOST "mkdir -p $ETC/conf/omsagent.d; touch $ETC/conf/omsagent.d/theirs.conf"
    exits 30 admin $HOST -w "$WS" -s KEY -d "$DOMAIN" "${CAS[@]}"; said 'a folder that is not empty: move what is in it'
    sh_ $HOST "test -e $ETC/conf/omsagent.d/theirs.conf && rm -r $ETC/conf"
}
from_environment() {
    names_known no
    exits 0 in_environment "HTTPS_PROXY=http://plain:$PASSWORD@127.0.0.1:$USERS/"
    said "^info	The agent does not see HTTPS_PROXY: the proxy is saved to $ETC/proxy.conf$"
    unsaid "$PASSWORD"
    sh_ $HOST "logger -p user.err 'by environment'"
    arrives 'by environment' 30
    equal "$(sh_ $HOST "cat $ETC/proxy.conf; stat -c %a:%U $ETC/proxy.conf")" "http://plain:$PASSWORD@127.0.0.1:$USERS/600:omsagent"
    names_known yes
    forget
}
opened_and_trusted() {
    exits 0 admin $HOST -w "$WS" -s KEY -d "$DOMAIN" --ca-file /mnt/k/inspected.pem -p "127.0.0.1:$OPENS"
    said '^info	Onboarding success$'
    said '^warning	what answers did not ask for this host.s certificate: .*TLS inspection'
    forget
}
v6_alone() {
    hub_stop; HUB_LISTEN='[::1]:443' hub_start $HOST
    sh_ $HOST "sed 's/^127\.0\.0\.1\t\($WS\|$WS2\)/::1\t\1/' /etc/hosts >/run/h; cat /run/h >/etc/hosts; grep -c '^::1	$WS' /etc/hosts"
    exits 0 admin $HOST -w "$WS" -s KEY -d "$DOMAIN" "${CAS[@]}"; said '^info	Onboarding success$'
    sh_ $HOST "logger -p user.err 'over version six'"
    arrives 'over version six' 30
    forget
    # A proxy that knows it by its v6 address alone, itself met by a v6 address.
    exits 0 admin $HOST -w "$WS2" -s KEY -d "$DOMAIN" "${CAS[@]}" -p "[::1]:$PLAIN"; said '^info	Onboarding success$'
    forget
    hub_stop; hub_start $HOST
    sh_ $HOST "sed 's/^::1\t\($WS\|$WS2\)/127.0.0.1\t\1/' /etc/hosts >/run/h; cat /run/h >/etc/hosts"
}
seen_nowhere() {
    # From the onboarding file no command line has it: sampled; afterwards proxy.conf alone may hold it.
    # One that no command line of this test had: the journal keeps those of the rig's own commands.
    printf '%s' "$UNSEEN" >"$WORK/k/pattern"
    inside $HOST watch /mnt/k/pattern /run/seen & local watcher=$!
    sleep 0.3
    sh_ $HOST "umask 077; { echo WORKSPACE_ID=$WS; echo SHARED_KEY=\$(cat /mnt/k/key); echo URL_TLD=$DOMAIN; echo CA_FILE=/mnt/k/other.pem; echo PROXY=unseen:\$(cat /mnt/k/pattern)@127.0.0.1:$USERS; } >/etc/omsagent-onboard.conf"
    exits 0 admin $HOST -v
    said "^info	Onboarding success$"; unsaid "$UNSEEN"
    sh_ $HOST 'pkill -TERM -f "inside watch"' || true; wait $watcher || true
    sh_ $HOST 'cat /run/seen' >"$WORK/seen"; cat "$WORK/seen"; [ ! -s "$WORK/seen" ]
    sh_ $HOST "sleep 1; mv $ETC/proxy.conf /mnt/proxy.conf.kept"
    inside $HOST holds /mnt/k/pattern
    sh_ $HOST "mv /mnt/proxy.conf.kept $ETC/proxy.conf"
}
identity() { sh_ $HOST "systemctl show -p MainPID -p ActiveEnterTimestampMonotonic $(agent_unit); sha256sum $ETC/$WS/certs/* $ETC/ca.pem"; }
still_there() {
    sh_ $HOST "logger -p user.err 'the same agent'"
    # It waits between two tries; the hub was away.
    arrives 'the same agent' 100
    identity >"$WORK/agent.now"; same_file "$WORK/agent" "$WORK/agent.now"
}
onboarded_without() {
    exits 0 admin $HOST -w "$WS" -s KEY -d "$DOMAIN" --ca-file /mnt/k/ca.pem
    identity >"$WORK/agent"
}
every_cause_was_met() {
    sort -u "$WORK/met" >"$WORK/met.all"
    sed -n '/^## Why an onboarding failed/,/^## .service_control/s/^| `\([a-z-]*\)` .*/\1/p' "$TOP/docs/exit-codes.md" | grep -vxE 'tls|local' | sort -u >"$WORK/met.wanted"
    [ "$(wc -l <"$WORK/met.wanted")" -gt 25 ]
    same_file "$WORK/met.wanted" "$WORK/met.all"
}

in_syslog() { # whoever reads the system's log reads it too
    sh_ $HOST 'journalctl -q --no-pager -t omsagent SYSLOG_FACILITY=16 PRIORITY=3 -o cat' >"$WORK/journal.err"
    grep -qE '^\[ERROR\] Error connecting to OMS service through proxy: .*\[proxy-auth\]$' "$WORK/journal.err"
    sh_ $HOST 'journalctl -q --no-pager -t omsagent SYSLOG_FACILITY=16 PRIORITY=6 -o cat' | grep -x '\[INFO\] Onboarding success'
    sh_ $HOST 'journalctl -q --no-pager -t omsagent SYSLOG_FACILITY=16 PRIORITY=4 -o cat' | grep '^\[WARNING\] the proxy .* speaks no TLS'
    no grep -E "$PASSWORD|$WRONG_PASSWORD" "$WORK/journal.err"
    # The journal adds the sender's command line: what was secret in it is hidden by then.
    sh_ $HOST 'journalctl -q --no-pager -t omsagent -o export' | grep -a '^_CMDLINE=' >"$WORK/cmdlines"
    sort -u "$WORK/cmdlines" | cut -c1-300
    grep -qE -- '-s "?\*{40,}"? .*-p "?\*{8,}' "$WORK/cmdlines"
    no grep -E "$PASSWORD|$WRONG_PASSWORD" "$WORK/cmdlines"
    no grep -F -f "$WORK/k/key" "$WORK/cmdlines"
    # Another facility, by LOG_FACILITY; kept by the next onboarding. No daemon: nobody minds.
    sh_ $HOST "sed -i s/^LOG_FACILITY=.*/LOG_FACILITY=local3/ $ETC/conf/omsadmin.conf"
    exits 0 admin $HOST -w "$WS" -s KEY -d "$DOMAIN" --ca-file /mnt/k/ca.pem2
    sh_ $HOST "grep -x LOG_FACILITY=local3 $ETC/conf/omsadmin.conf && journalctl -q --no-pager -t omsagent SYSLOG_FACILITY=19 -o cat" | grep -x '\[INFO\] Onboarding success'
    exits 3 sh_ $HOST 'unshare -m sh -c "mount --bind /dev/null /dev/log; exec sh /opt/microsoft/omsagent/bin/omsadmin.sh -w x -s y"'
    told workspace-id 'is not valid'
}

PASSWORD=s3cret-word-$$ UNSEEN=unseen-word-$$ WRONG_PASSWORD=wr0ng-word-$$
make_certificates
start $name --host proxy.test=127.0.0.1
hub_make; hub_start $name
cp "$HUB_DATA/ca/ca.pem" "$WORK/k/ca.pem2"
cat "$WORK/k/ca.pem" "$WORK/certs/service.pem" >"$WORK/k/other.pem"
cat "$WORK/k/other.pem" "$WORK/certs/inspector.pem" >"$WORK/k/inspected.pem"
if ! squid_start $name; then
    tail -n 5 "$WORK/mkroot"
    if [ "${CI:-}" = true ]; then case_ 'squid is needed here' false; else echo "SKIPPED $SELF: no root with squid can be built here"; PASSED=1; fi
    exit 0
fi
odd_start $name
bundle $name --upgrade >"$WORK/install" 2>&1 || { cat "$WORK/install"; stage_broken 'the package does not install'; }

# The second host waits for time-outs while the first one works.
start $slow
"$RIG/netexec" $slow -- "$SYS/odd" "$WORK/certs" "$WORK/ports.slow" >"$WORK/odd.log.slow" 2>&1 & echo $! >>"$WORK/pids"
slow_story >"$WORK/slow.out" 2>&1 & slow_pid=$!

for host_is in 'not onboarded' onboarded; do
    if [ "$host_is" = onboarded ]; then
        hub_start $name
        case_ 'onboarded, without a proxy' onboarded_without
    fi
    case_ "$host_is: ids, keys, domains, names" before_the_wire
    case_ "$host_is: proxies" at_proxies
    case_ "$host_is: services" at_services
    [ "$host_is" != onboarded ] || case_ "$host_is: no handshake" at_service 8 timeout 'did not finish the TLS handshake' tls-mute
    case_ "$host_is: the hub's own refusals" at_the_hub
    case_ "$host_is: clocks 20 minutes apart, both ways" clocks
    case_ "$host_is: proxy.conf of every kind" setting_in_a_file
    case_ "$host_is: proxy.conf in its old place" in_the_old_place
    hub_stop
    case_ "$host_is: variables, and what comes first" precedence
done
hub_start $name
case_ 'after all that the same agent runs, and is known' still_there
forget >/dev/null
case_ 'onboards through each kind of proxy, and sends' through_proxies
names_known yes
case_ 'https:// for a proxy that speaks no TLS' old_https
case_ 'a proxy.conf in a folder of before: moved' from_old_place
case_ 'a proxy of the environment is saved' from_environment
case_ 'a proxy that opens TLS and is trusted: onboarded, with a warning' opened_and_trusted
case_ 'names with a v6 address alone' v6_alone
case_ 'the password of the proxy is seen nowhere' seen_nowhere
case_ 'the lines are in syslog, of facility LOG_FACILITY' in_syslog
slow_rc=0; wait "$slow_pid" || slow_rc=$?
case_ 'time-outs: services and proxies that do not answer' sh -c 'cat "$2"; exit "$1"' sh "$slow_rc" "$WORK/slow.out"
case_ 'every cause of docs/exit-codes.md was met' every_cause_was_met
