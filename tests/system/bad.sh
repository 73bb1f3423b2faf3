#!/bin/bash
# bad ROOT   every wrong input, on the real bundle: exit code, one clear line, and the host as it was (or installed, not
# onboarded, and saying so). The codes are those the original's callers know.
. "$(dirname "$(readlink -f "$0")")/lib.sh"
name=bad$$

# One clear line: something on stderr or stdout that names the matter, no panic, no backtrace.
clear_line() { said "$1"; unsaid 'panicked|RUST_BACKTRACE|stack backtrace|thread .main.'; }

# untouched WHAT-FOLLOWS...: after the command the disk is as before it.
untouched() { inside $name list >"$WORK/now"; same_file "$WORK/clean" "$WORK/now"; inside $name accounts | cmp - "$WORK/clean.accounts"; }

usage() { # CODE PATTERN ARGS...
    local code=$1 pattern=$2; shift 2
    exits "$code" bundle $name "$@"
    clear_line "$pattern"
    untouched
}

not_root() {
    local mode
    for mode in --install --upgrade --remove --purge; do
        exits 5 sh_ $name "cd / && runuser -u nobody -- sh /mnt/dist/$BUNDLE_NAME $mode"
        clear_line 'Must have root privileges to be able to perform (install|upgrade|remove|purge) operation'
    done
    # shellcheck disable=SC2016
    exits 5 sh_ $name 'cd / && runuser -u nobody -- sh "/mnt/dist/$1" --upgrade -w "$2" -s x' "$BUNDLE_NAME" "$WS"
    clear_line 'Must have root privileges'
    # Asking needs no root.
    exits 0 sh_ $name "cd / && runuser -u nobody -- sh /mnt/dist/$BUNDLE_NAME --help"
    exits 0 sh_ $name "cd / && runuser -u nobody -- sh /mnt/dist/$BUNDLE_NAME --version"
    untouched
}

damaged() { # HOW
    local f=$WORK/k/damaged.sh size middle
    cp "$BUNDLE" "$f"; size=$(stat -c %s "$f")
    case $1 in
        truncated) truncate -s $((size / 2)) "$f";;
        short) truncate -s $((size - 1)) "$f";;
        longer) printf 'xx' >>"$f";;
        stub-only) truncate -s 1000 "$f";;
        runner) # one bit within the program
            middle=$((8192 + 100000)); flip "$f" "$middle";;
        member) # one bit within the last member
            middle=$((size - 300000)); flip "$f" "$middle";;
        crlf) sed 's/$/\r/' "$BUNDLE" >"$f";;
    esac
    no cmp -s "$f" "$BUNDLE"
    exits 2 sh_ $name 'cd / && sh /mnt/k/damaged.sh --upgrade'
    clear_line 'truncated|damaged|altered|corrupt|checksum|does not match|extra bytes|text mode|download'
    exits 2 sh_ $name 'cd / && sh /mnt/k/damaged.sh --extract'
    rm -f "$f"
    untouched
}
flip() { # FILE OFFSET
    local b; b=$(od -An -tu1 -j "$2" -N1 "$1" | tr -d ' ')
    # shellcheck disable=SC2059
    printf "$(printf '\\%03o' $((b ^ 1)))" | dd of="$1" bs=1 seek="$2" conv=notrunc status=none
}

piped() { exits 2 sh_ $name "cd / && cat /mnt/dist/$BUNDLE_NAME | sh -s -- --upgrade"; untouched; }

# A ca-file that cannot be read is found before anything is changed; which of the two codes is the product's choice.
usage_ca() {
    local pattern=$1; shift
    local got=0; bundle $name "$@" >"$OUT" 2>&1 </dev/null || got=$?
    [ $got != 0 ]; clear_line "$pattern"; untouched
}

# --- onboarding that cannot work: the package may be installed, the host is not onboarded, and the output says so

onboarding() { # CODE PATTERN ARGS...
    local code=$1 pattern=$2; shift 2
    exits "$code" bundle $name --upgrade "$@"
    clear_line "$pattern"
    not_onboarded
}
not_onboarded() {
    if sh_ $name 'test -e /opt/microsoft/omsagent/bin/omsadmin.sh'; then
        exits 0 admin $name -l; said '^No Workspace$|Failure\('
        equal "$(sh_ $name 'systemctl list-unit-files "omsagent-*" --no-legend | wc -l')" 0 'units'
        no sh_ $name "test -e /etc/opt/microsoft/omsagent/$WS/certs/oms.key"
        no sh_ $name 'ls /etc/rsyslog.d/95-omsagent.conf'
        no sh_ $name 'pgrep -u omsagent'
    else
        untouched
    fi
}

by_admin() { # the same through omsadmin.sh
    local code=$1 pattern=$2; shift 2
    exits "$code" admin $name "$@"
    clear_line "$pattern"
    not_onboarded
}

mends_itself() {
    exits 0 bundle $name "${UPGRADE[@]}"
    exits 0 admin $name -l
    said "Onboarded\(OMSAgent Running\)"
    exits 0 bundle $name --purge
    untouched
}

# A working host must stay working when someone then types a wrong key.
wrong_key_on_a_working_host() {
    exits 0 bundle $name "${UPGRADE[@]}"
    sh_ $name "systemctl stop $(agent_unit); sha256sum /etc/opt/microsoft/omsagent/$WS/certs/*" >"$WORK/certs"
    exits 5 admin $name -w "$WS" -s WRONG -d "$DOMAIN" --ca-file /mnt/k/ca.pem
    sh_ $name "sha256sum /etc/opt/microsoft/omsagent/$WS/certs/*" | cmp - "$WORK/certs"
    sh_ $name "systemctl start $(agent_unit)"
    exits 0 bundle $name --purge
}

start $name
inside $name list >"$WORK/clean"; inside $name accounts >"$WORK/clean.accounts"
D=(-d "$DOMAIN"); C=(--ca-file /mnt/k/ca.pem)
case_ 'unknown flag: 2' usage 2 "Unknown argument: '--bogus'" --bogus
case_ 'stray word: 2' usage 2 "Unknown argument: 'word'" --upgrade word
case_ 'two modes: 2' usage 2 'Conflicting qualifiers' --install --upgrade
case_ 'upgrade and purge: 2' usage 2 'Conflicting qualifiers' --upgrade --purge
case_ 'no mode: 3' usage 3 'No options specified'
case_ '-w without -s: 2' usage 2 'Must specify both workspace ID \(--id\) and key \(--shared\) to onboard' --upgrade -w "$WS"
case_ '-s without -w: 2' usage 2 'Must specify both workspace ID \(--id\) and key \(--shared\) to onboard' --upgrade -s KEY
case_ 'not root: 5' not_root
for how in truncated short longer stub-only runner member crlf; do case_ "bundle $how: 2" damaged $how; done
case_ 'bundle through a pipe: 2' piped
hub_start $name
case_ 'workspace id that is no GUID: 3' onboarding 3 '[Ww]orkspace ID is not valid|not a GUID' -w not-a-guid -s KEY "${D[@]}" "${C[@]}"
case_ 'key that is no base64: 3' onboarding 3 'base64' -w "$WS" -s 'not*base64!' "${D[@]}" "${C[@]}"
case_ 'ca-file that is not there' usage_ca 'ca-file|no-such' --upgrade -w "$WS" -s KEY "${D[@]}" --ca-file /root/no-such.pem
case_ 'wrong key (403): 5' onboarding 5 '403' -w "$WS" -s WRONG "${D[@]}" "${C[@]}"
case_ 'workspace the hub has not (no such host): 7' onboarding 7 '[Rr]esolv' -w "$NOWS" -s KEY "${D[@]}" "${C[@]}"
case_ 'certificate that is not trusted: 8' onboarding 8 'certificate|trust' -w "$WS" -s KEY "${D[@]}"
case_ 'omsadmin.sh: wrong key: 5' by_admin 5 '403' -w "$WS" -s WRONG "${D[@]}" "${C[@]}"
case_ 'omsadmin.sh: bad GUID: 3' by_admin 3 'not valid|not a GUID' -w nonsense -s KEY "${D[@]}"
case_ 'omsadmin.sh: no key: 3' by_admin 3 'Missing Workspace ID or Shared Key' -w "$WS" "${D[@]}"
hub_stop
case_ 'hub down: 8' onboarding 8 'connect|refused' -w "$WS" -s KEY "${D[@]}" "${C[@]}"
# A static program takes no preloaded clock: the hub of this case is the debug build.
skewed=$TOP/target/debug/omsagent faketime=$(find /usr/lib -name libfaketime.so.1 | sed -n 1p)
if [ -x "$skewed" ] && [ -n "$faketime" ]; then
    HUB_BINARY=$skewed
    hub_start $name env LD_PRELOAD="$faketime" FAKETIME=+2h
    case_ 'clocks two hours apart (403 ClockSkew): 5' onboarding 5 'ClockSkew|clock' -w "$WS" -s KEY "${D[@]}" "${C[@]}"
    hub_stop; HUB_BINARY=$BINARY
else
    case_ 'clocks two hours apart needs target/debug/omsagent and libfaketime' false
fi
hub_start $name
case_ 'after all that, the right key onboards, and purge cleans' mends_itself
case_ 'a wrong key on a working host spoils nothing' wrong_key_on_a_working_host
