#!/bin/bash
# calling ROOT   the ways people call the bundle: through any shell, renamed, from any folder, without the right to execute,
# with /tmp noexec, from a read-only folder, by sudo.
. "$(dirname "$(readlink -f "$0")")/lib.sh"
name=call$$

# answers SCRIPT: the program behind the stub answers (`--version` is the stub's own).
answers() {
    exits 0 sh_ $name "$1"
    said 'omsagent.* 2\.0\.0' "$OUT.out"
    said '^OMS agent shell bundle exiting with status code 0$' "$OUT.out"
}
stub_answers() { exits 0 sh_ $name 'cd /root; sh ./b.sh --version'; equal "$(cat "$OUT.out")" 'Version: 2.0.0.1'; }
source_references() {
    exits 0 sh_ $name 'cd /root; sh ./b.sh --source-references'
    grep -qxE 'omsagent: [0-9a-f]{40}' <(head -n 1 "$OUT.out")
}
argument_whole() {
    exits 2 sh_ $name "cd /root; sh ./b.sh --upgrade 'two  words; \$x'"
    said "Unknown argument: 'two  words; \\\$x'"
}
reports_help() {
    exits 0 sh_ $name 'cd /root; sh ./b.sh --help'
    said '--upgrade' "$OUT.err"; said '--shared-key-file' "$OUT.err"
    exits 0 sh_ $name 'cd /root; sh ./b.sh "-?"'
}
leaves_no_litter() {
    sh_ $name 'ls -d /tmp/*omsb* /run/*omsb* /var/tmp/*omsb* 2>/dev/null' >"$WORK/litter" || true
    cat "$WORK/litter"; [ ! -s "$WORK/litter" ]
}

start $name
sh_ $name "cp /mnt/dist/$BUNDLE_NAME /root/b.sh && chmod 755 /root/b.sh"
case_ './b' answers 'cd /root; ./b.sh --version-check'
case_ 'sh b' answers 'cd /root; sh b.sh --version-check'
case_ 'bash b' answers 'cd /root; bash b.sh --version-check'
case_ 'sh -x b' answers 'cd /root; sh -x b.sh --version-check'
case_ 'sudo sh ./b' answers 'cd /root; sudo sh ./b.sh --version-check'
case_ 'by full name, from /' answers 'cd /; /root/b.sh --version-check'
case_ 'from a folder beside it' answers 'cd /etc; sh ../root/b.sh --version-check'
case_ 'renamed, with a blank' answers 'cd /root; cp b.sh "my agent"; sh "./my agent" --version-check'
case_ 'through a link' answers 'ln -sf /root/b.sh /usr/local/bin/agent-bundle; agent-bundle --version-check'
case_ 'mode 0144, as root' answers 'cd /root; cp b.sh m; chmod 0144 m; sh ./m --version-check && ./m --version-check >/dev/null'
case_ '/tmp noexec' answers 'unshare -m sh -c "mount -t tmpfs -o noexec t /tmp; cd /root; TMPDIR=/tmp sh ./b.sh --version-check"'
case_ '/tmp, /var/tmp and /run noexec' answers 'unshare -m sh -c "mount -t tmpfs -o noexec t /tmp; mount -t tmpfs -o noexec t /var/tmp; mount -t tmpfs -o noexec t /run; cd /root; sh ./b.sh --version-check"'
case_ 'a read-only folder' answers 'unshare -m sh -c "mkdir -p /srv/ro; mount -t tmpfs t /srv/ro; cp /root/b.sh /srv/ro/; mount -o remount,ro /srv/ro; cd /srv/ro; ./b.sh --version-check"'
case_ 'a full /tmp' answers 'unshare -m sh -c "mount -t tmpfs -o size=64k t /tmp; cd /root; TMPDIR=/tmp sh ./b.sh --version-check"'
case_ 'umask 077, empty environment' answers 'cd /root; umask 077; env -i sh ./b.sh --version-check'
case_ 'closed stdin' answers 'cd /root; sh ./b.sh --version-check <&-'
case_ '--version is one line' stub_answers
# Sources without git have no commit to name.
! git -C "$TOP" rev-parse HEAD >/dev/null 2>&1 || case_ '--source-references names the commit' source_references
case_ '--help is on stderr, exit 0' reports_help
case_ 'arguments arrive whole' argument_whole
case_ 'nothing is left in the temporary folders' leaves_no_litter
