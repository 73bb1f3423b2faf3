#!/bin/bash
# portable   a host with neither dpkg nor rpm, but systemd and rsyslog: the files are laid down by the bundle itself. The
# whole life: install, onboard, forward, run again, upgrade with an edited file, kill, remove, purge; files and accounts as
# before. Then the host's edges: files in the way, a read-only /usr, a read-only /opt, and a dpkg that comes later.
. "$(dirname "$(readlink -f "$0")")/lib.sh"
. "$TOP/tests/sweep/next.sh"
name=port$$
RECEIPT=/var/lib/omsagent/portable.json
EDITED=/etc/opt/microsoft/omsagent/sysconf/omsagent.d/syslog.conf

next() { sh_ $name 'cd /root && exec sh /mnt/next/next.sh "$@"' "$@"; }

no_syslog_daemon() {
    local O=/opt/microsoft/omsagent none='^No supported syslog daemon found'
    # There may be one here: away with what tells.
    sh_ $name 'mkdir -p /root/away && for f in /etc/rsyslog.conf /etc/rsyslog.d /etc/syslog-ng; do ! [ -e $f ] || mv $f /root/away/; done'
    exits 1 on $name $O/bin/configure_syslog.sh configure $WS 25224; said "$none\. Syslog messages will not be processed\.$" "$OUT.out"
    exits 1 on $name $O/bin/configure_syslog.sh unconfigure $WS 25224; said "$none; unable to unconfigure syslog monitoring\.$" "$OUT.out"
    exits 1 on $name $O/bin/configure_syslog.sh purge; said "$none; unable to purge syslog monitoring\.$" "$OUT.out"
    exits 1 on $name $O/bin/configure_syslog.sh restart; said "$none; unable to restart syslog monitoring\.$" "$OUT.out"
    exits 1 on $name $O/bin/configure_syslog.sh configure; said '^WORKSPACE_ID and SYSLOG_PORT are required$' "$OUT.err"
    sh_ $name 'for f in /root/away/*; do ! [ -e "$f" ] || mv "$f" /etc/; done; rmdir /root/away'
}
hide_dpkg() {
    sh_ $name 'mkdir /root/hidden && mv /usr/bin/dpkg* /etc/debian_version /root/hidden/'
    no sh_ $name 'command -v dpkg || command -v rpm'
}
look() { inside $name list >"$WORK/$1"; inside $name accounts >"$WORK/$1.accounts"; }
as_before() { look after; same_file "$WORK/before.accounts" "$WORK/after.accounts"; same_file "$WORK/before" "$WORK/after"; }

dry_run() {
    exits 0 bundle $name "${UPGRADE[@]}" --dry-run
    said 'Neither dpkg nor rpm is here' "$OUT.out"; said 'would install package omsagent .* without a package manager'
    as_before
}
install() {
    exits 0 bundle $name --install -w "$WS" -s KEY -d "$DOMAIN" --ca-file /mnt/k/ca.pem
    said 'Neither dpkg nor rpm is here' "$OUT.out"
    said 'status code 0' "$OUT.out"
    equal "$(sh_ $name "stat -c '%a %U:%G' $RECEIPT")" '600 root:root' 'mode of the receipt'
    sh_ $name "systemctl is-active $(agent_unit) && systemctl is-enabled $(agent_unit)"
    sh_ $name '/usr/bin/omsagent --version && grep -q ^omsagent: /etc/passwd && visudo -cq'
}
# Every file of the receipt is there with its digest, and every file of the package is in the receipt.
receipt_is_true() {
    sh_ $name "cat $RECEIPT" >"$WORK/receipt"
    python3 - "$WORK/receipt" >"$WORK/sums" <<'X'
import json, sys
for path, thing in json.load(open(sys.argv[1]))["things"].items():
    if thing["type"] == "file":
        print(f'{thing["sha256"]}  {path}')
X
    [ "$(wc -l <"$WORK/sums")" -gt 10 ]
    cp "$WORK/sums" "$WORK/k/sums"; sh_ $name 'sha256sum --quiet -c /mnt/k/sums'
    dpkg-deb --fsys-tarfile "$DIST"/omsagent_*_amd64.deb | tar -t | sed -E 's#^\.##; s#/$##; /^$/d' | sort >"$WORK/in-package"
    python3 -c 'import json,sys; print("\n".join(sorted(json.load(open(sys.argv[1]))["things"])))' "$WORK/receipt" >"$WORK/in-receipt"
    equal "$(comm -23 "$WORK/in-package" "$WORK/in-receipt")" '' 'not in the receipt'
}
forwards() { local mark="port-$$-$RANDOM"; sh_ $name "logger -t rigtest -p auth.warning '$mark'"; arrives "$mark" 30; }
again_changes_nothing() {
    inside $name still >"$WORK/still.1"
    exits 0 bundle $name "${UPGRADE[@]}" --detailed-exitcode
    inside $name still >"$WORK/still.2"; same_file "$WORK/still.1" "$WORK/still.2"
    exits 0 bundle $name --upgrade --json
    said '"manager":"portable"' "$OUT.out"; said '"before":"2.0.0-1","after":"2.0.0-1"' "$OUT.out"
}
version_check() { exits 0 bundle $name --version-check; said '^omsagent +2\.0\.0\.1 +2\.0\.0\.1 +No'; }
upgrade_keeps_the_edit() {
    local pid; pid=$(sh_ $name "systemctl show -p MainPID --value $(agent_unit)")
    sh_ $name "echo '# edited by hand' >>$EDITED"
    exits 0 next --version-check; said '^omsagent +2\.0\.0\.1 +2\.0\.1\.1 +Yes'
    exits 100 next --upgrade --detailed-exitcode
    sh_ $name "tail -n 1 $EDITED | grep -q 'edited by hand' && /opt/microsoft/omsagent/bin/omsagent --version | grep -qF ${NEXT%-*}"
    [ "$(sh_ $name "systemctl show -p MainPID --value $(agent_unit)")" != "$pid" ] || wrong 'the old program runs on'
    exits 0 bundle $name --upgrade --detailed-exitcode    # the older bundle leaves it alone
    said 'Skipping package upgrade'
}
KEPT=/var/lib/omsagent/packages
version_there() { sh_ $name '/opt/microsoft/omsagent/bin/omsagent --version' | grep -oE '[0-9]+\.[0-9]+\.[0-9]+' | head -n 1; }
rollback() {
    equal "$(sh_ $name "ls $KEPT | grep -vc json")" 2 'kept files'
    exits 0 sh_ $name 'omsagent rollback --dry-run'; said "would set package omsagent back from $NEXT to 2.0.0-1 without a package manager"
    exits 0 sh_ $name 'omsagent rollback --json'
    said '"changed":true,"packages":\[\{"name":"omsagent","from":"'"$NEXT"'","to":"2.0.0-1"\}\]' "$OUT.out"
    equal "$(version_there)" 2.0.0
    sh_ $name "tail -n 1 $EDITED | grep -q 'edited by hand' && systemctl is-active $(agent_unit) && grep -q '\"complete\": true' $RECEIPT"
    exits 0 bundle $name --version-check; said '^omsagent +2\.0\.0\.1 '
    exits 1 sh_ $name 'omsagent rollback'; said 'went back already' "$OUT.err"
    forwards
}
dying_agent_is_taken_back() {
    exits 17 sh_ $name 'cd /root && sh /mnt/next/dying.sh --upgrade'
    said "not healthy: workspace $WS.*omsagent 2.0.0-1 is back and its agents run" "$OUT.err"
    equal "$(version_there)" 2.0.0
    sh_ $name "systemctl is-active $(agent_unit) && tail -n 1 $EDITED | grep -q 'edited by hand'"
    exits 0 next --upgrade
    said 'the upgraded agent runs; ' "$OUT.out"
    equal "$(version_there)" "${NEXT%-*}"
}
too_little_space() {
    exits 17 in_ns "mount -t tmpfs -o size=1m none /opt && cd /root && sh /mnt/dist/$BUNDLE_NAME --install"
    said 'error	not enough space on the file system of /opt: [0-9]+ MB needed, [01] MB free' "$OUT.err"
    as_before
}
remove_keeps_settings() {
    exits 0 bundle $name --remove
    no sh_ $name 'ls /opt/microsoft /usr/bin/omsagent || getent passwd omsagent'
    sh_ $name "grep -q 'edited by hand' $EDITED && test -s /etc/opt/microsoft/omsagent/$WS/certs/oms.key && test -s $RECEIPT"
    exits 0 bundle $name --version-check; said '^omsagent +None'
}
comes_back() {
    local key; key=$(sh_ $name "sha256sum /etc/opt/microsoft/omsagent/$WS/certs/oms.key")
    exits 0 next --install
    sh_ $name "grep -q 'edited by hand' $EDITED && systemctl is-active $(agent_unit)"
    equal "$(sh_ $name "sha256sum /etc/opt/microsoft/omsagent/$WS/certs/oms.key")" "$key" 'the key'
}
uninstall_tool() { exits 0 on $name sh /opt/microsoft/omsagent/bin/uninstall P; as_before; }
purge() { exits 0 bundle $name --purge; as_before; exits 0 bundle $name --purge; }

# killed_at N: at its N-th rename or removal. What that leaves, the next run finishes, and a purge takes away.
kill_at() {
    # shellcheck disable=SC2016
    exits 0 sh_ $name 'cd /root; /mnt/tools/strace -qq -o /dev/null -e trace=rename,renameat,renameat2,unlink,unlinkat,rmdir \
        -e "inject=rename,renameat,renameat2,unlink,unlinkat,rmdir:signal=KILL:when=$2" sh "/mnt/dist/$1" "$3" >/root/killed 2>&1 && { echo "ran to its end"; exit 1; }; rm -f /root/killed' \
        "$BUNDLE_NAME" "$1" "$2"
}
killed() {
    kill_at "$1" --install
    exits 0 bundle $name --install
    sh_ $name "/usr/bin/omsagent --version >/dev/null && grep -q '\"complete\": true' $RECEIPT"
    exits 0 bundle $name --purge; as_before
    kill_at "$1" --install
    exits 0 bundle $name --purge; as_before
    exits 0 bundle $name --install
    kill_at "$(($1 / 2 + 1))" --purge
    exits 0 bundle $name --purge; as_before
}

somebody_elses_file() {
    sh_ $name 'echo mine >/usr/bin/omsagent'
    look mine
    exits 17 bundle $name --install
    said '/usr/bin/omsagent' "$OUT.err"; said 'force' "$OUT.err"
    look after; same_file "$WORK/mine" "$WORK/after"
    equal "$(sh_ $name 'cat /usr/bin/omsagent')" mine
    exits 17 bundle $name --install --dry-run
    exits 0 bundle $name --install --force
    equal "$(sh_ $name 'readlink /usr/bin/omsagent')" /opt/microsoft/omsagent/bin/omsagent
    exits 0 bundle $name --purge; as_before
}
# in_ns SCRIPT: mounts that nobody else sees, and still the instance's systemd.
in_ns() { sh_ $name 'exec unshare --mount --propagation private sh -c "$1"' "$1"; }
read_only_usr() {
    sh_ $name 'mount --bind /usr /usr && mount -o remount,bind,ro /usr'
    exits 0 bundle $name "${UPGRADE[@]}"
    said '/usr cannot be written; left out' "$OUT.out"
    sh_ $name "test -f /etc/systemd/system/$(agent_unit) && systemctl is-active $(agent_unit) && test ! -e /usr/bin/omsagent"
    forwards
    exits 0 bundle $name "${UPGRADE[@]}" --detailed-exitcode
    exits 0 bundle $name --purge
    sh_ $name 'umount -l /usr'
    as_before
}
read_only_opt() {
    exits 17 in_ns "mount -t tmpfs -o ro none /opt && cd /root && sh /mnt/dist/$BUNDLE_NAME --install"
    said '/opt.*read-only' "$OUT.err"
    as_before
}
no_package_in_the_bundle() {
    mkdir -p "$WORK/none"
    cat >"$WORK/none/p.toml" <<'X'
name = "other"
summary = "Another package"
description = "Another package."
maintainer = "Other <other@example.org>"
vendor = "Other"
license = "MIT"
[deb]
section = "utils"
priority = "optional"
[rpm]
group = "T"
[[change]]
version = "1.0-1"
date = "2026-01-01"
text = ["One."]
[[dir]]
path = "/opt/other"
X
    "$BINARY" pack deb --manifest "$WORK/none/p.toml" --binary "$BINARY" --arch x86_64 --version-label 1.0-1 --time 1 --out "$WORK/none" >/dev/null
    "$BINARY" pack build --runner "x86_64=$BINARY" --package "$WORK"/none/*.deb --version-label 2.0.0-1 --out "$WORK/k/none.sh" >/dev/null
    exits 66 on $name sh /mnt/k/none.sh --install
    said 'does not have a supported package manager' "$OUT.err"
    as_before
}
kits_are_left_out() {
    # shellcheck disable=SC2016
    printf '#!/bin/sh\necho "$*" >/root/kit-one\n' >"$WORK/none/one-1.0.0-1.universal.x64.sh"
    "$BINARY" pack build --runner "x86_64=$BINARY" --package "$DIST"/omsagent_*_amd64.deb --kit "one=$WORK/none/one-1.0.0-1.universal.x64.sh" --out "$WORK/k/kit.sh" >/dev/null
    exits 0 on $name sh /mnt/k/kit.sh --install --dry-run; unsaid 'run kit' "$OUT.out"
    exits 0 on $name sh /mnt/k/kit.sh --install
    said '^Kit one needs dpkg or rpm and is left out\.$' "$OUT.out"
    no sh_ $name 'ls /root/kit-one'
    exits 0 bundle $name --purge
    as_before
}
dpkg_comes_later() {
    exits 0 bundle $name --install
    sh_ $name 'mv /root/hidden/dpkg* /usr/bin/ && mv /root/hidden/debian_version /etc/ && rmdir /root/hidden'
    exits 0 next --upgrade
    said 'stays so, though dpkg is here' "$OUT.out"
    sh_ $name "/opt/microsoft/omsagent/bin/omsagent --version | grep -qF ${NEXT%-*}"
    no sh_ $name 'dpkg -s omsagent'
    exits 0 bundle $name --remove
    exits 0 bundle $name --install
    sh_ $name "dpkg -s omsagent | grep -q '^Status: install ok installed' && test ! -e $RECEIPT"
    exits 17 bundle $name --install --portable; said 'refused' "$OUT.err"
    exits 0 bundle $name --purge
    exits 0 bundle $name --install --portable; said 'dpkg is here' "$OUT.err"
    no sh_ $name 'dpkg -s omsagent'
    exits 0 bundle $name --purge
    no sh_ $name "ls -d /etc/opt/microsoft /opt/microsoft /var/opt/microsoft $RECEIPT"
}

mkdir -p "$WORK/next"
next_bundle "$WORK/next"
# Its agent does not know a word of its own unit, and ends at once.
next_bundle "$WORK/next" dying 's/no-supervisor/no-superwisor/g' 's/%CONF% --no-superwisor/%CONF% --no-supervisor/'
start $name --bind-ro "$WORK/next:/mnt/next" --bind-ro "$("$RIG/lib/mktools"):/mnt/tools"
case_ 'dpkg is gone' hide_dpkg
hub_start $name
look before
case_ '--dry-run says how, and changes nothing' dry_run
case_ '--install -w -s lays the files down and onboards' install
case_ 'the receipt names every file of the package, with its digest' receipt_is_true
case_ 'a line arrives' forwards
case_ 'no syslog daemon: four lines, 1' no_syslog_daemon
case_ 'the same again changes nothing; --json' again_changes_nothing
case_ '--version-check' version_check
case_ '--upgrade to the next release: running, the edited file kept' upgrade_keeps_the_edit
case_ 'a line arrives from the next release' forwards
case_ 'rollback goes back once, edits stay' rollback
case_ 'an upgrade whose agent dies is taken back by itself' dying_agent_is_taken_back
case_ '--remove keeps the edited file and the workspace' remove_keeps_settings
case_ '--install brings both back' comes_back
case_ 'the uninstall tool purges: files and accounts as before' uninstall_tool
case_ 'files of somebody else: named, 17, untouched; --force' somebody_elses_file
for n in ${KILL_AT:-3 7 15 22}; do case_ "killed at the $n. rename or removal: finished by the next run, or purged" killed "$n"; done
case_ 'read-only /usr: nothing below it is needed' read_only_usr
case_ 'read-only /opt: 17 before the first change' read_only_opt
case_ 'too little space: 17 before the first change' too_little_space
case_ 'a bundle without a package for it: 66' no_package_in_the_bundle
case_ 'kits are left out with a line' kits_are_left_out
case_ '--purge, and again' purge
case_ 'a dpkg that comes later: stays portable until removed; --portable beside dpkg' dpkg_comes_later
