#!/bin/bash
# table ROOT   the rows of bundle.md 1.2-1.4 that need an installed system: a bundle with all of the original's packages (stand-ins
# of ours for omi, scx and omsconfig) and kits. Each row: what is typed -> exit code, stream, line, status line, what is installed.
. "$(dirname "$(readlink -f "$0")")/lib.sh"
name=table$$
B=$WORK/k/b
FORMAT=deb; ! is_rpm || FORMAT=rpm
OTHER=rpm; ! is_rpm || OTHER=deb

# --- the bundles

# stand_in NAME VERSION MAINTAINER [PRE-INSTALL SCRIPT]: a package file in $B, its path on stdout.
stand_in() {
    local d=$B/src/$1-$2-${4:+bad}${3%% *} script='' files='' removal_deb='' removal_rpm=''
    mkdir -p "$d"
    if [ -n "${4:-}" ]; then
        printf '#!/bin/sh\n%s\n' "$4" >"$d/pre"
        script='preinst = "pre"'
    fi
    if [ "$1" = omi ]; then
        # shellcheck disable=SC2016
        printf '#!/bin/sh\necho "omi $1"\nexit "$(cat /root/omi-status 2>/dev/null || echo 0)"\n' >"$d/control"
        files='[[dir]]
path = "/opt/omi"
[[dir]]
path = "/opt/omi/bin"
[[file]]
source = "control"
path = "/opt/omi/bin/service_control"
mode = 0o755'
    else
        # Packages that are not ours to purge stay out of the folder that is.
        local place=/opt/microsoft; case $1 in *-mdsd | user-of-it) place=/opt;; esac
        files="[[dir]]
path = \"$place/$1\""
        if [ "$1" = omsconfig ]; then
            # shellcheck disable=SC2016
            printf '#!/bin/sh\n[ -e /root/sleep-remove ] || exit 0\ntouch /root/removal-begun; sleep "$(cat /root/sleep-remove)"\n' >"$d/before-removal"
            removal_deb='prerm = "before-removal"' removal_rpm='preun = "before-removal"'
        fi
        if [ "$1" = scx ]; then
            echo default >"$d/conf"
            files+='
[[file]]
source = "conf"
path = "/etc/scx.conf"
mode = 0o644
conffile = true'
        fi
    fi
    local needs=''; [ "$1" != user-of-it ] || needs=omsagent
    cat >"$d/p.toml" <<X
name = "$1"
summary = "Stand-in"
description = "Stand-in for tests."
maintainer = "$3 <t@example.org>"
vendor = "$3"
license = "MIT"
[deb]
section = "utils"
priority = "optional"
depends = [${needs:+\"$needs\"}]
[deb.scripts]
$script
$removal_deb
[rpm]
group = "T"
requires = [${needs:+\"$needs\"}]
[rpm.scripts]
${script:+pre = \"pre\"}
$removal_rpm
[[change]]
version = "$2"
date = "2026-01-01"
text = ["One."]
$files
X
    pack_one "$d/p.toml" "$2" "$d"
}
pack_one() { "$BINARY" pack "$FORMAT" --manifest "$1" --binary "$BINARY" --arch x86_64 --time 1700000000 --version-label "$2" --out "$3"; }
bundle_of() { # NAME PACKAGE...
    local out=$B/$1.sh; shift
    "$BINARY" pack build --runner "x86_64=$BINARY" --package "$@" "${KITS[@]}" --out "$out" >/dev/null
}
# A kit that notes how it was called, and ends as it is told.
kit() {
    # shellcheck disable=SC2016
    printf '#!/bin/sh\necho "$*" >/root/kit-%s\nsleep "$(cat /root/sleep-kit 2>/dev/null || echo 0)"\nexit "$(cat /root/status-%s 2>/dev/null || echo 0)"\n' "$1" "$1" >"$B/$1-1.0.0-1.universal.x64.sh"
}
make_bundles() {
    mkdir -p "$B"; chmod 755 "$B"
    local own omi scx conf pre='exit 1'
    kit one; kit docker; kit two; kit never; kit asleep
    KITS=(--kit "one=$B/one-1.0.0-1.universal.x64.sh" --kit-when one=path:/root --kit-when one=command:sh --kit-when one=service:systemd-journald
        --kit "asleep=$B/asleep-1.0.0-1.universal.x64.sh" --kit-when asleep=service:kit-asleep
        --kit "docker=$B/docker-1.0.0-1.universal.x64.sh" --bundled-kit "two=$B/two-1.0.0-1.universal.x64.sh"
        --kit "never=$B/never-1.0.0-1.universal.x64.sh" --kit-when never=socket:/root)
    own=$(pack_one "$TOP/bundle/omsagent.toml" 2.0.0-1 "$B")
    omi=$(stand_in omi 1.8.1-0 Test); scx=$(stand_in scx 1.8.1-0 Test); conf=$(stand_in omsconfig 1.3.0-0 Test)
    bundle_of all "$conf" "$own" "$scx" "$omi"
    bundle_of bad-omi "$own" "$scx" "$conf" "$(stand_in omi 1.8.1-0 Test "$pre")"
    # shellcheck disable=SC2016
    local killed; killed=$(stand_in omi 1.8.2-0 Test 'kill -9 $PPID')
    bundle_of killed "$own" "$scx" "$conf" "$killed"; cp "$killed" "$B/killed-omi.$FORMAT"
    bundle_of slow "$own" "$scx" "$conf" "$(stand_in omi 1.8.3-0 Test 'touch /root/pre-begun; sleep 3; touch /root/pre-ended')"
    bundle_of slow-scx "$own" "$omi" "$conf" "$(stand_in scx 1.8.3-0 Test 'touch /root/pre-begun; sleep 3; touch /root/pre-ended')"
    bundle_of newer-omi "$own" "$scx" "$conf" "$(stand_in omi 1.8.4-0 Test)"
    bundle_of bad-scx "$own" "$omi" "$conf" "$(stand_in scx 1.8.1-0 Test "$pre")"
    bundle_of bad-omsconfig "$own" "$omi" "$scx" "$(stand_in omsconfig 1.3.0-0 Test "$pre")"
    bundle_of bad-omsagent "$(stand_in omsagent 2.0.0-1 Test "$pre")" "$omi" "$scx" "$conf"
    cp "$(stand_in omi 1.6.0-0 'Microsoft Corporation')" "$B/ms-omi.$FORMAT"; cp "$omi" "$B/own-omi.$FORMAT"
    cp "$(stand_in lad-mdsd 1.0.0-0 Test)" "$B/lad.$FORMAT"
    cp "$(stand_in azsec-mdsd 1.0.0-0 Test)" "$B/azsec.$FORMAT"
    cp "$(stand_in user-of-it 1.0.0-0 Test)" "$B/user.$FORMAT"
    local real=$FORMAT; FORMAT=$OTHER
    KITS=(); bundle_of other "$(pack_one "$TOP/bundle/omsagent.toml" 2.0.0-1 "$B")"
    FORMAT=$real
    rm -rf "$B/src"; [ -e "$B/all.sh" ] && [ -e "$B/other.sh" ]
}

# --- how a row is told

# b CODE BUNDLE WORDS...: it ends so, and with the status line.
b() {
    local code=$1 which=$2; shift 2
    # shellcheck disable=SC2016
    exits "$code" sh_ $name 'cd /root; f=$1; shift; exec sh "/mnt/k/b/$f.sh" "$@"' "$which" "$@"
    equal "$(tail -n 1 "$OUT.out")" "OMS agent shell bundle exiting with status code $code" 'last line'
    unsaid 'panicked'
}
out() { grep -qxF -- "$1" "$OUT.out" || { cat "$OUT.out"; wrong "not on stdout: $1"; }; }
err() { grep -qF -- "$1" "$OUT.err" || { cat "$OUT.err"; wrong "not on stderr: $1"; }; }
installed() { # the packages of ours that are installed, one line
    if is_rpm; then sh_ $name 'for p in omi scx omsagent omsconfig lad-mdsd azsec-mdsd; do ! rpm -q $p >/dev/null || printf "%s " $p; done'
    else sh_ $name 'for p in omi scx omsagent omsconfig lad-mdsd azsec-mdsd; do ! dpkg -s $p 2>/dev/null | grep -q "^Status: [a-z]* ok installed" || printf "%s " $p; done'; fi
}
have() { equal "$(installed)" "$1" 'installed packages'; }
by_hand() { if is_rpm; then sh_ $name "rpm -i --nosignature /mnt/k/b/$1.rpm"; else sh_ $name "dpkg -i /mnt/k/b/$1.deb"; fi; }
called() { equal "$(sh_ $name "cat /root/kit-$1 2>/dev/null")" "$2" "words of kit $1"; }
order() { equal "$(sed -nE "s/^----- $1 package:? ([a-z]+) .*/\1/p" "$OUT.out" | paste -sd' ')" "$2" 'order'; }
clean() {
    sh_ $name 'rm -f /root/kit-* /root/status-* /root/omi-status'
    b 0 all --purge --force
    sh_ $name 'for p in lad-mdsd azsec-mdsd; do if command -v dpkg >/dev/null && [ -e /var/lib/dpkg/status ]; then dpkg -P $p; fi; if command -v rpm >/dev/null; then rpm -e $p; fi; done' >/dev/null 2>&1 || true
    sh_ $name 'rm -rf /etc/opt/omi /etc/scxagent-enable-port'
    have ''
}

# --- the rows

kit_of_a_service() {
    sh_ $name 'systemd-run --unit=kit-asleep sleep 300'
    b 0 all --upgrade
    sh_ $name 'test -e /root/kit-asleep'
    sh_ $name 'systemctl stop kit-asleep'
}
install_in_order() {
    b 0 all --install
    order Installing 'omi scx omsagent omsconfig'
    have 'omi scx omsagent omsconfig '
    out '----- Installing bundled provider packages -----'
    called one --install; called docker --install; called two --install
    no sh_ $name 'test -e /root/kit-never || test -e /root/kit-asleep'
    said '^omi reload$'
}
again_is_23() {
    b 23 all --install
    err 'The omi or scx package is already installed. Please run the'
    err 'installer with --upgrade (instead of --install) to continue.'
}
upgrade_skips() {
    b 0 all --upgrade
    out 'Skipping package upgrade since existing version is >= than version already installed.'
    order Upgrading ''
    out '----- Updating bundled provider packages -----'
    called one --upgrade
    unsaid '^omi reload$'
    # Kits are run, and do not count: what they do is not ours to know.
    b 0 all --upgrade --detailed-exitcode
    b 0 all --upgrade --detailed-exitcode --dry-run
    said '^would run kit one with --upgrade$' "$OUT.out"
}
rows_say_no() {
    b 0 all --version-check
    equal "$(grep -cE '^(omsagent|omsconfig|omi|scx) .*No *$' "$OUT.out")" 4 'rows with No'
}
passed_on() {
    b 0 all --upgrade --force --restart-deps --noDigest
    called one '--upgrade --force --restart-deps'; called two '--upgrade --force --restart-deps --noDigest'
    order Upgrading 'omi scx omsagent omsconfig'
    said '^Provided noDigest flag in cmdline' "$OUT.out"
}
docker_skipped() {
    sh_ $name 'rm -f /root/kit-docker'
    b 0 all --upgrade --skip-docker-provider-install
    out 'Provided skip-docker-provider-install option'
    out 'docker provider package installation skipped since --skip-docker-provider-install flag is set.'
    no sh_ $name 'test -e /root/kit-docker'
}
kit_fails_21() {
    sh_ $name 'echo 3 >/root/status-one'
    b 21 all --upgrade
    out 'one provider package failed to install and exited with error code 3'
    have 'omi scx omsagent omsconfig '
}
bundle_fails_22() {
    sh_ $name 'echo 4 >/root/status-two'
    b 22 all --upgrade
    out 'two package failed to upgrade and exited with error code 4'
    sh_ $name 'rm /root/status-*'
}
remove_all() {
    sh_ $name 'mkdir -p /etc/cron.d /etc/collectd.d; touch /etc/cron.d/OMSConsistencyInvoker /etc/collectd.d/oms.conf /etc/omsagent-onboard.conf'
    b 100 all --remove --dry-run --detailed-exitcode
    equal "$(sed -nE 's/^would remove package ([a-z]+).*/\1/p' "$OUT.out" | paste -sd' ')" 'omsconfig omsagent scx omi' 'what would go'
    have 'omi scx omsagent omsconfig '
    b 100 all --remove --detailed-exitcode
    order Removing 'omsconfig omsagent scx omi'
    have ''
    # What the run did can be read afterwards, and the same again has nothing to do.
    sh_ $name 'grep -q "ended with code 100" "$(ls /var/lib/omsagent/log/bundle-*.log | tail -n 1)"; tail -n 1 /var/lib/omsagent/journal.jsonl | grep -q "\"event\":\"complete\""'
    b 0 all --remove --dry-run --detailed-exitcode
    unsaid '^would ' "$OUT.out"
    b 0 all --remove --detailed-exitcode
    sh_ $name 'touch /etc/cron.d/OMSConsistencyInvoker'
    b 100 all --remove --dry-run --detailed-exitcode; b 100 all --remove --detailed-exitcode
    no sh_ $name 'ls /etc/cron.d/OMSConsistencyInvoker' ; no sh_ $name 'ls /etc/collectd.d/oms.conf'; no sh_ $name 'ls /etc/omsagent-onboard.conf'
    sh_ $name 'rmdir /etc/collectd.d 2>/dev/null || true'
}
purge_folders() {
    b 0 all --upgrade
    sh_ $name 'mkdir -p /etc/opt/microsoft/scx /var/opt/microsoft/omsconfig /var/opt/omi /opt/microsoft/mysql-cimprov && touch /var/opt/omi/x /etc/opt/microsoft/scx/x /var/opt/microsoft/omsconfig/x'
    b 100 all --purge --dry-run --detailed-exitcode
    said '^would delete the folders of packages that are gone$' "$OUT.out"
    b 100 all --purge --detailed-exitcode
    out 'Purging all files in cross-platform agent ...'
    have ''
    b 0 all --purge --dry-run --detailed-exitcode; unsaid '^would ' "$OUT.out"
    b 0 all --purge --detailed-exitcode
    sh_ $name 'mkdir -p /etc/opt/omi/conf'
    b 100 all --purge --dry-run --detailed-exitcode; b 100 all --purge --detailed-exitcode
    no sh_ $name 'ls -d /etc/opt/omi /var/opt/omi /opt/omi /etc/opt/microsoft /var/opt/microsoft /opt/microsoft 2>/dev/null | grep .'
}
fails_with() { # CODE BUNDLE LINE
    b "$1" "$2" --install
    said "^$3 [0-9]+\$" "$OUT.out"
    said "^error	$3 [0-9]+: " "$OUT.err"
    have ''
}
omi_service() { # STATUS CODE REASON
    sh_ $name "echo $1 >/root/omi-status"
    b "$2" all --install
    out "OMI server failed to start due to $3 and exited with error code $1"
    have ''
    sh_ $name 'rm /root/omi-status'
}
omi_upgrade() {
    b 0 all --upgrade
    sh_ $name "echo 3 >/root/omi-status"
    b 52 newer-omi --upgrade
    out 'OMI server failed to start due to missing omi server conf file and exited with error code 3'
    sh_ $name 'rm /root/omi-status'
    clean
}
# Killed in the middle: what is half there goes, and can be taken away where it does not go.
tool_is_killed() {
    b 19 killed --install
    have ''
    unsaid 'not taken back'
    no sh_ $name 'dpkg -s omi 2>/dev/null | grep -E "^Status: .*(half|reinst)"'
    is_rpm || { sh_ $name 'dpkg -i /mnt/k/b/killed-omi.deb >/dev/null 2>&1; dpkg -s omi | grep -E "^Status: .*reinstreq"'; b 0 all --remove; no sh_ $name 'dpkg -s omi 2>/dev/null | grep -E "^Status: .*(half|reinst)"'; }
}
# Killed between two packages: the same command goes on from what it brought itself, and refuses what it did not.
killed_in_between() {
    # shellcheck disable=SC2016
    exits 137 sh_ $name 'cd /root; sh /mnt/k/b/slow-scx.sh --install & p=$!; for i in $(seq 200); do [ -e /root/pre-begun ] && break; sleep 0.1; done; kill -KILL $p; wait $p'
    equal "$(installed | grep -oE "^omi ")" 'omi ' 'what was there when it was killed'
    b 0 slow-scx --install
    have 'omi scx omsagent omsconfig '
    sh_ $name 'rm -rf /root/pre-* /run/omsb.*'    # of the one that was killed: kept for a day
    b 23 slow-scx --install
    clean
    by_hand own-omi
    b 23 all --install
    have 'omi '
    clean
}
# signalled SIGNAL WHO FILE CODE BUNDLE WORDS...: that signal to `it` alone or to its `group`, once FILE is there; ends with CODE.
signalled() {
    local signal=$1 who=$2 file=$3 code=$4 which=$5; shift 5
    # shellcheck disable=SC2016
    exits "$code" sh_ $name 'cd /root; signal=$1; who=$2; file=$3; f=$4; shift 4
        perl -e "\$SIG{INT} = \"DEFAULT\"; setpgrp; exec @ARGV" sh "/mnt/k/b/$f.sh" "$@" & p=$!
        for i in $(seq 200); do [ -e "$file" ] && break; sleep 0.1; done
        [ "$who" = it ] && kill -"$signal" $p || kill -"$signal" -$p
        wait $p' "$signal" "$who" "$file" "$which" "$@"
    unsaid 'panicked|not taken back'
    no sh_ $name 'command -v dpkg >/dev/null && dpkg -l | grep -E "^.[HUF]|^..R"'
    no sh_ $name 'ls -d /run/omsb.* /tmp/omsb.* /var/tmp/omsb.* 2>/dev/null | grep .'
}
ctrl_c_in_the_tool() {
    signalled INT group /root/pre-begun 17 slow --install
    equal "$(tail -n 1 "$OUT.out")" 'OMS agent shell bundle exiting with status code 17' 'last line'
    said 'stopped by a signal'
    sh_ $name 'ls /root/pre-ended; rm /root/pre-*'
    have ''
}
term_in_an_upgrade() {
    b 0 all --upgrade
    signalled TERM it /root/pre-begun 17 slow --upgrade --json
    said '"exit_code":17' "$OUT.out"; said '"changed":false' "$OUT.out"
    have 'omi scx omsagent omsconfig '
    b 0 all --version-check
    said '^omi +1\.8\.1\.0 ' "$OUT.out"
    sh_ $name 'rm /root/pre-*'
}
term_in_a_kit() {
    sh_ $name 'rm -f /root/kit-*; echo 3 >/root/sleep-kit'
    signalled TERM it /root/kit-one 30 all --upgrade
    said 'stopped by a signal: kit .* not run' "$OUT.err"
    equal "$(sh_ $name 'ls /root/kit-*')" /root/kit-one 'kits that were run'
    sh_ $name 'rm /root/sleep-kit /root/kit-one'
}
# What is under way comes to its end, the rest stays; the same command again does the rest.
term_in_a_removal() {
    sh_ $name 'echo 3 >/root/sleep-remove'
    signalled "$1" "$2" /root/removal-begun 17 all --remove
    said 'stopped by a signal' "$OUT.err"
    have 'omi scx omsagent '
    sh_ $name 'rm /root/sleep-remove /root/removal-begun'
    b 0 all --remove
    have ''
    b 0 all --upgrade
}
uninstall_hears_it() {
    # shellcheck disable=SC2016
    exits 17 sh_ $name 'echo 3 >/root/sleep-remove; /opt/microsoft/omsagent/bin/uninstall R & p=$!; for i in $(seq 200); do [ -e /root/removal-begun ] && break; sleep 0.1; done; kill -TERM $p; wait $p'
    said 'stopped by a signal' "$OUT.err"
    have 'omi scx omsagent '
    sh_ $name 'rm /root/sleep-remove /root/removal-begun'
    clean
}
# Settings of an earlier installation outlive a run that fails.
kept_settings_stay() {
    b 0 all --upgrade
    sh_ $name 'echo edited >/etc/scx.conf'
    b 0 all --remove
    sh_ $name 'grep -qx edited /etc/scx.conf'
    b 18 bad-omsconfig --upgrade
    sh_ $name 'grep -qx edited /etc/scx.conf; dpkg -s scx | grep -qx "Status: deinstall ok config-files"'
    clean
    no sh_ $name 'ls /etc/scx.conf'
}
microsoft_stays() {
    by_hand ms-omi
    b 0 all --upgrade
    said "^Package omi 1.6.0-0 is Microsoft's and is left alone" "$OUT.out"
    order Upgrading ''; order Installing 'scx omsagent omsconfig'
    b 0 all --version-check
    said '^omi +1\.6\.0\.0 +1\.8\.1\.0 +No' "$OUT.out"
    b 0 all --version-check --force
    said '^omi +1\.6\.0\.0 +1\.8\.1\.0 +Yes' "$OUT.out"
    b 23 all --install
    b 0 all --upgrade --force
    order Upgrading 'omi scx omsagent omsconfig'
    b 0 all --version-check
    said '^omi +1\.8\.1\.0 +1\.8\.1\.0 +No' "$OUT.out"
    clean
}
# Also one that dpkg has not configured: a failed script of its own must not hand it to us.
half_of_microsofts() {
    sh_ $name 'dpkg --unpack /mnt/k/b/ms-omi.deb'
    b 0 all --version-check
    said '^omi +None +1\.8\.1\.0 +No' "$OUT.out"
    b 0 all --upgrade
    said "^Package omi, not wholly installed, is Microsoft's and is left alone" "$OUT.out"
    order Installing 'scx omsagent omsconfig'
    equal "$(sh_ $name "dpkg-query -W -f '\${Version}' omi")" 1.6.0-0 'version of omi'
    clean
}
lad() {
    b 0 all --upgrade; by_hand lad
    b 0 all --remove --dry-run
    unsaid 'would remove package (omsagent|omi|scx)' "$OUT.out"
    b 0 all --remove
    out '--- LAD detected; not removing OMS package ---'
    out '--- MDSD detected; not removing SCX or OMI packages ---'
    have 'omi scx omsagent lad-mdsd '
    b 0 all --purge
    out '---------- PURGE WARNING: lad-mdsd or azsec-mdsd was detected ----------'
    have 'lad-mdsd '
    if is_rpm; then sh_ $name 'rpm -e lad-mdsd'; else sh_ $name 'dpkg -P lad-mdsd'; fi
}
azsec() {
    b 0 all --upgrade; by_hand azsec
    b 0 all --remove
    out '--- MDSD detected; not removing SCX or OMI packages ---'
    have 'omi scx azsec-mdsd '
    if is_rpm; then sh_ $name 'rpm -e azsec-mdsd'; else sh_ $name 'dpkg -P azsec-mdsd'; fi
    clean
}
operations_manager() {
    b 0 all --upgrade
    sh_ $name 'mkdir -p /etc/opt/omi/conf; echo httpsport=0,1270 >/etc/opt/omi/conf/omiserver.conf'
    b 0 all --purge
    said '^--- Operations Manager can reach this host; not removing SCX or OMI packages'
    have 'omi scx '
    sh_ $name 'test -e /etc/opt/omi/conf/omiserver.conf'
    b 0 all --purge --force
    have ''
}
removal_fails() {
    b 0 all --upgrade; by_hand user
    b 17 all --remove
    said 'package omsagent could not be removed: (dpkg|rpm) said'
    have 'omsagent '
    if is_rpm; then sh_ $name 'rpm -e user-of-it'; else sh_ $name 'dpkg -P user-of-it'; fi
    clean
}
wrong_kind() {
    local mine=DPKG theirs=RPM; ! is_rpm || { mine=RPM; theirs=DPKG; }
    b 4 other --upgrade
    out "This kit is intended for $theirs systems and cannot install on $mine systems"
    have ''
}
opsmgr() {
    exits 0 sh_ $name 'cd /root; sh /mnt/k/b/all.sh --enable-opsmgr --version'
    equal "$(cat "$OUT.out")" 'Version: 2.0.0.1'
    sh_ $name 'test -f /etc/scxagent-enable-port && test ! -s /etc/scxagent-enable-port'
    sh_ $name 'rm /etc/scxagent-enable-port'
    b 2 all --enable-opsmgr --bogus
    sh_ $name 'rm /etc/scxagent-enable-port'
    b 0 all --enable-opsmgr --extract-script /root/script --version-check
    sh_ $name 'rm /etc/scxagent-enable-port /root/script'
    b 0 all --upgrade --dry-run --enable-opsmgr
    said 'would make /etc/scxagent-enable-port' "$OUT.out"
    b 2 all --enable-opsmgr --bogus --dry-run
    no sh_ $name 'ls /etc/scxagent-enable-port'
    b 0 all --upgrade
    b 100 all --upgrade --enable-opsmgr --dry-run --detailed-exitcode
    b 100 all --upgrade --enable-opsmgr --detailed-exitcode
    sh_ $name 'test -f /etc/scxagent-enable-port'
    b 0 all --upgrade --enable-opsmgr --dry-run --detailed-exitcode
    b 0 all --upgrade --enable-opsmgr --detailed-exitcode
    clean
}
onboarding_file() {
    sh_ $name "umask 077; printf 'WORKSPACE_ID=%s\nSHARED_KEY=%s\nURL_TLD=%s\nCA_FILE=%s\n' $NOWS \"\$(cat /mnt/k/key)\" $DOMAIN /mnt/k/ca.pem >/etc/omsagent-onboard.conf"
    b 7 all --upgrade
    err 'NOT onboarded'
    sh_ $name 'test -s /etc/omsagent-onboard.conf'
    # Up to date, and onboarded all the same; deleted when that succeeded.
    sh_ $name "sed -i 's/^WORKSPACE_ID=.*/WORKSPACE_ID=$WS/' /etc/omsagent-onboard.conf"
    b 100 all --upgrade --dry-run --detailed-exitcode
    said '^would onboard as /etc/omsagent-onboard.conf says' "$OUT.out"
    b 100 all --upgrade --detailed-exitcode
    out 'Reading onboarding params from: /etc/omsagent-onboard.conf'
    no sh_ $name 'test -e /etc/omsagent-onboard.conf'
    exits 0 admin $name -l; said "^Primary Workspace: $WS    Status: Onboarded"
}
lad_unboards() {
    by_hand lad
    b 0 all --remove
    out "--- Unboarding the workspace $WS... ---"
    exits 0 admin $name -l; said '^No Workspace$'
    b 0 all --purge
    if is_rpm; then sh_ $name 'rpm -e lad-mdsd'; else sh_ $name 'dpkg -P lad-mdsd'; fi
}
# The packages are there, the onboarding is not: the same command with the right words is no second installation.
install_again_to_onboard() {
    b 7 all --install -w "$NOWS" --shared-key-file /mnt/k/key -d "$DOMAIN" --ca-file /mnt/k/ca.pem
    err 'NOT onboarded'
    have 'omi scx omsagent omsconfig '
    b 0 all --install -w "$WS" --shared-key-file /mnt/k/key -d "$DOMAIN" --ca-file /mnt/k/ca.pem
    exits 0 admin $name -l; said "^Primary Workspace: $WS    Status: Onboarded"
    b 23 all --install
    clean
}
nothing_left() { inside $name list >"$WORK/after"; same_file "$WORK/before" "$WORK/after"; }

make_bundles >"$WORK/make" 2>&1 || { cat "$WORK/make"; stage_broken 'the bundles could not be built'; }
start $name
inside $name list >"$WORK/before"
case_ '--install: omi, scx, omsagent, omsconfig, kits; 0' install_in_order
case_ '--install where omi or scx is there: 23' again_is_23
case_ '--upgrade of what is there: skipped; 0' upgrade_skips
case_ '--version-check of what is there: No' rows_say_no
case_ '--force --restart-deps --noDigest are passed on' passed_on
case_ '--skip-docker-provider-install' docker_skipped
case_ 'a kit of a service is run where the service runs' kit_of_a_service
case_ 'a kit fails: 21' kit_fails_21
case_ 'a bundle fails after it: 22' bundle_fails_22
case_ '--remove: omsconfig, omsagent, scx, omi; cron, collectd, onboarding file' remove_all
case_ '--purge: folders of all that is gone' purge_folders
case_ 'omi cannot be installed: 19' fails_with 19 bad-omi 'omi.* package failed to install and exited with error code'
case_ 'scx cannot be installed: 20' fails_with 20 bad-scx 'scx.* package failed to install and exited with error code'
case_ 'omsagent cannot be installed: 17' fails_with 17 bad-omsagent 'omsagent.* package failed to install and exited with error code'
case_ 'omsconfig cannot be installed: 18' fails_with 18 bad-omsconfig 'omsconfig.* package failed to install and exited with error code'
case_ 'omi does not start, 2: 52' omi_service 2 52 'system issue with daemon control tool'
case_ 'omi does not start, 3: 52' omi_service 3 52 'missng omi server conf file'
case_ 'omi does not start after an upgrade, 3: 52' omi_upgrade
case_ 'omi does not start, 1: 19' omi_service 1 19 'OMI installation failure'
case_ 'dpkg or rpm is killed: 19, and nothing is half there' tool_is_killed
case_ '--install killed between two packages: the same again ends it; 23 for what others brought' killed_in_between
case_ 'Ctrl-C while dpkg or rpm works: that step ends, all is taken back' ctrl_c_in_the_tool
case_ 'SIGTERM in an upgrade: the versions before are back' term_in_an_upgrade
case_ 'SIGTERM in a kit: the next ones are not run; 30' term_in_a_kit
case_ 'SIGTERM in a removal: the next packages stay' term_in_a_removal TERM it
case_ 'Ctrl-C in a removal: the next packages stay' term_in_a_removal INT group
case_ 'SIGTERM in bin/uninstall' uninstall_hears_it
is_rpm || case_ 'settings that a removal kept outlive a run that fails' kept_settings_stay
case_ "Microsoft's omi stays, but for --force" microsoft_stays
is_rpm || case_ "Microsoft's omi, unpacked only, stays too" half_of_microsofts
case_ 'lad-mdsd: --remove leaves omsagent, omi, scx; --purge warns' lad
case_ 'azsec-mdsd: --remove leaves omi and scx' azsec
case_ 'Operations Manager: omi and scx stay, but for --force' operations_manager
case_ 'a removal that fails: 17' removal_fails
case_ 'the other package format: 4' wrong_kind
case_ '--enable-opsmgr at once, even with --version' opsmgr
hub_start $name
case_ 'onboarding file: kept on failure, used by an upgrade that has nothing to do, deleted on success' onboarding_file
case_ 'lad-mdsd: --remove takes the workspace from omsagent' lad_unboards
case_ '--install whose onboarding failed is given again' install_again_to_onboard
sh_ $name 'rm -f /root/kit-* /root/status-*'
case_ 'after all that nothing is left' nothing_left
echo "table $ROOT: $PASSED of $((PASSED + FAILED))"
