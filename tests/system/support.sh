#!/bin/bash
# support ROOT   manual pages and completions on a booted system, found by the programs that read them and gone after a purge;
# `omsagent support-bundle` of a system that runs, with secrets in its units, its journal and its logs.
# shellcheck disable=SC2016
. "$(dirname "$(readlink -f "$0")")/lib.sh"
name=sup$$
E=/etc/opt/microsoft/omsagent
# Not in the text of a command: they reach the system as a file.
printf '%s\n' 'un1t-Environment-Secret' 'j0urnal/Secr3t+x' 'pr0xy@Passw0rd' 'QWNjb3VudCBrZXkgaW4gYSBsb2c=' >"$WORK/k/planted"
planted() { sed -n "$1p" "$WORK/k/planted"; }

installed() { exits 0 bundle $name "${UPGRADE[@]}"; }

pages() {
    mkdir -p "$WORK/man"
    sh_ $name 'cd /usr/share/man && tar -c man1/omsagent* man5/omsagent* man8/omsadmin.sh* man8/omsagent-hub* man8/service_control* man8/configure_syslog.sh*' | tar -x -C "$WORK/man"
    local p
    for p in omsagent omsagent-bundle omsagent.conf omsadmin.sh service_control configure_syslog.sh omsagent-hub; do
        # By its name, in the folder where a package put it.
        MANPATH=$WORK/man man -P cat "$p" >"$OUT" 2>"$OUT.err"
        said '^NAME'; said "$p - "; said '^SEE ALSO'
        [ ! -s "$OUT.err" ] || { cat "$OUT.err"; return 1; }
    done
    MANPATH=$WORK/man man -P cat omsagent >"$OUT"; said 'support-bundle'; said '--anonymous'
    ! sh_ $name 'command -v man' || sh_ $name 'man -P cat omsagent | grep -q support-bundle'
}
completions() {
    is_rpm && local zsh=/usr/share/zsh/site-functions || local zsh=/usr/share/zsh/vendor-completions
    sh_ $name "head -n 1 $zsh/_omsagent | grep -q '^#compdef omsagent '; test -e /usr/share/fish/vendor_completions.d/omsadmin.sh.fish"
    # As the loader of bash-completion does it: by the command's name; and with the workspaces of this system.
    on $name bash -c 'set -u; . /usr/share/bash-completion/completions/service_control; complete -p service_control omsadmin.sh omsagent
        COMP_WORDS=(service_control restart ""); COMP_CWORD=2; _omsagent; printf "%s\n" "${COMPREPLY[@]}"' | tee "$OUT"
    said "^$WS\$"
}
# A system that takes no documentation has none, and nothing is wrong with it.
minimal() {
    ! is_rpm || return 0
    sh_ $name 'printf "path-exclude=/usr/share/man/*\npath-exclude=/usr/share/doc/*\n" >/etc/dpkg/dpkg.cfg.d/minimal'
    exits 0 bundle $name --upgrade --force
    sh_ $name '! test -e /usr/share/man/man1/omsagent.1.gz'
    exits 0 sh_ $name 'omsagent doctor --install'
    sh_ $name 'rm /etc/dpkg/dpkg.cfg.d/minimal'
    exits 0 bundle $name --upgrade --force
    sh_ $name 'test -e /usr/share/man/man1/omsagent.1.gz'
}

plant() {
    sh_ $name "d=/etc/systemd/system/$(agent_unit).d; mkdir -p \$d"'
        { echo "[Service]"; echo "Environment=SOMETHING=$(sed -n 1p /mnt/k/planted)"
          echo "ExecStartPre=+/bin/sh /root/say"; } >$d/secret.conf
        echo "echo answer: token=$(sed -n 2p /mnt/k/planted)" >/root/say
        printf "http://u:%s@proxy.test:3128\n" "$(sed -n 3p /mnt/k/planted | sed s/@/%40/)" >'$E'/proxy.conf
        systemctl daemon-reload'
    # The journal of the unit, as its agent could have written it.
    sh_ $name "systemctl restart $(agent_unit); journalctl -q -u $(agent_unit)" | grep -F -- "$(planted 2)"
    sh_ $name '
        log=/var/opt/microsoft/omsagent/'"$WS"'/log/omsagent.log
        printf "2031-01-02 03:04:05 +0000 [warn]: Proxy-Authorization: Basic %s\n" "$(printf "u:%s" "$(sed -n 3p /mnt/k/planted)" | base64 -w0)" >>$log
        printf "2031-01-02 03:04:05 +0000 [warn]: ran omsadmin.sh -w x -s %s\n" "$(sed -n 4p /mnt/k/planted)" >>$log
        printf "2031-01-02 03:04:05 +0000 [warn]: the key is %s\n" "$(cat /mnt/k/key)" >>$log
        cat '$E/$WS'/certs/oms.key >>$log'
}
made() {
    exits 0 sh_ $name 'cd /root && rm -f omsagent-support-* && omsagent support-bundle'
    said 'not in it' "$OUT.err" || true
    sh_ $name 'cd /root && test "$(stat -c "%a %U" omsagent-support-*.tar.gz)" = "600 root" && cat omsagent-support-*.tar.gz' >"$WORK/s.tar.gz"
    rm -rf "$WORK/s"; mkdir "$WORK/s"; tar -xzf "$WORK/s.tar.gz" -C "$WORK/s" --strip-components=1
    [ "$(stat -c %s "$WORK/s.tar.gz")" -lt 20000000 ]
}
# Every form that a secret could have there; the patterns are files, as everywhere here.
forms() {
    local s u
    while IFS= read -r s; do
        printf '%s\n' "$s"; rev <<<"$s"
        python3 -c 'import sys, urllib.parse; print(urllib.parse.quote(sys.argv[1], safe=""))' "$s"
        for u in u us use; do printf '%s:%s' "$u" "$s" | base64 -w0 | tr -d = | cut -c$(((${#u} + 1) * 4 / 3 + 2))- | sed 's/.$//'; echo; done
    done | sort -u
}
no_secret() {
    { cat "$WORK/k/planted"; cat "$WORK/k/key"; echo; } | forms >"$WORK/patterns"
    sh_ $name "grep -v -- '---' $E/$WS/certs/oms.key" >>"$WORK/patterns"
    sed -i '/^.\{0,7\}$/d' "$WORK/patterns"; [ "$(wc -l <"$WORK/patterns")" -gt 40 ]
    # They can be found where they are.
    sh_ $name "cat /var/opt/microsoft/omsagent/$WS/log/omsagent.log /etc/systemd/system/$(agent_unit).d/secret.conf" | grep -cF -f "$WORK/patterns"
    no grep -rnaF -f "$WORK/patterns" "$WORK/s"
}
helps() {
    local f
    for f in MANIFEST status.json doctor.json history.json "units/$WS.status.txt" "units/$WS.show.txt" "units/$WS.cat.txt" "units/$WS.journal.txt" \
        "units/$WS.limits.txt" facts/package.txt facts/listeners.txt facts/files.txt "files$E/$WS/conf/omsagent.conf" "files/var/opt/microsoft/omsagent/$WS/log/omsagent.log" \
        files/etc/sudoers.d/omsagent; do
        [ -s "$WORK/s/$f" ] || wrong "$f is missing or empty"
    done
    said 'Environment=SOMETHING=\[redacted\]' "$WORK/s/units/$WS.cat.txt"
    said 'http://u:\[redacted\]@proxy.test:3128' "$WORK/s/files$E/proxy.conf"
    said "CN=$WS" "$WORK/s/facts/certificates.txt"
    said '127.0.0.1:25224' "$WORK/s/facts/listeners.txt"
    said 'omsagent' "$WORK/s/facts/package.txt"
    python3 -c 'import json, sys; [json.load(open(f)) for f in sys.argv[1:]]' "$WORK/s/status.json" "$WORK/s/doctor.json" "$WORK/s/history.json"
    # Not even asked: nothing went out and the syslog daemon got no message.
    unsaid 'test message' "$WORK/s/doctor.json"
    said 'answer: token=\[redacted\]' "$WORK/s/units/$WS.journal.txt"
}
anybody() {
    exits 0 sh_ $name 'cd /tmp && rm -rf n && mkdir -m 777 n && cd n && runuser -u nobody -- omsagent support-bundle --json'
    python3 -c 'import json, sys; o = json.load(open(sys.argv[1])); assert o["schema"] == 1 and o["missing"] and o["entries"]' "$OUT.out"
}
changes_nothing() {
    sh_ $name 'rm -rf /tmp/n /root/omsagent-support-*'
    inside $name still >"$WORK/still.1"
    exits 0 sh_ $name 'omsagent support-bundle -o /mnt/x --dry-run'
    exits 0 sh_ $name 'omsagent support-bundle -o /root'; sh_ $name 'rm /root/omsagent-support-*'
    inside $name still >"$WORK/still.2"; same_file "$WORK/still.1" "$WORK/still.2"
}
gone() {
    sh_ $name "rm -r /root/say /etc/systemd/system/$(agent_unit).d"
    exits 0 bundle $name --purge
    sh_ $name 'find /usr/share/man /usr/share/bash-completion /usr/share/fish /usr/share/zsh \( -name "*omsa*" -o -name "service_control*" -o -name "configure_syslog*" \) 2>/dev/null | grep . && exit 1 || true'
    inside $name list >"$WORK/after"; same_file "$WORK/before" "$WORK/after"
}

start $name
hub_start $name
inside $name list >"$WORK/before"
case_ 'install and onboard' installed
case_ 'manual pages are found by man' pages
case_ 'completions are where their shells look' completions
case_ 'a system that leaves documentation out' minimal
case_ 'secrets in a unit, the journal and the log' plant
case_ 'support-bundle' made
case_ 'no secret is in it' no_secret
case_ 'what helps is in it' helps
case_ 'as nobody' anybody
case_ 'it changes nothing' changes_nothing
case_ 'purge takes pages and completions' gone
