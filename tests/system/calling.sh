#!/bin/bash
# calling ROOT   the ways people call the bundle: through any shell, renamed, from any folder, without the right to execute,
# with /tmp noexec, from a read-only folder, by sudo.
. "$(dirname "$(readlink -f "$0")")/lib.sh"
name=call$$
VERSION_LINE='^Version: 2\.0\.0\.1$'

try() { # SCRIPT: prints the version
    exits 0 sh_ $name "$1"
    said "$VERSION_LINE" "$OUT.out"
    equal "$(wc -l <"$OUT.out")" 1 'lines on stdout'
}
reports() { # SCRIPT: the real runner answers, with its arguments whole
    exits 0 sh_ $name "$1"
    said 'omsagent' "$OUT.out"
    said 'OMS agent shell bundle exiting with status code 0' "$OUT.out"
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
case_ './b' try 'cd /root; ./b.sh --version'
case_ 'sh b' try 'cd /root; sh b.sh --version'
case_ 'bash b' try 'cd /root; bash b.sh --version'
case_ 'sh -x b' try 'cd /root; sh -x b.sh --version'
case_ 'sudo sh ./b' try 'cd /root; sudo sh ./b.sh --version'
case_ 'by full name, from /' try 'cd /; /root/b.sh --version'
case_ 'from a folder beside it' try 'cd /etc; sh ../root/b.sh --version'
case_ 'renamed, with a blank' try 'cd /root; cp b.sh "my agent"; sh "./my agent" --version'
case_ 'through a link' try 'ln -sf /root/b.sh /usr/local/bin/agent-bundle; agent-bundle --version'
case_ 'mode 0144, as root' try 'cd /root; cp b.sh m; chmod 0144 m; sh ./m --version && ./m --version >/dev/null'
case_ '/tmp noexec' try 'unshare -m sh -c "mount -t tmpfs -o noexec t /tmp; cd /root; TMPDIR=/tmp sh ./b.sh --version"'
case_ '/tmp, /var/tmp and /run noexec' try 'unshare -m sh -c "mount -t tmpfs -o noexec t /tmp; mount -t tmpfs -o noexec t /var/tmp; mount -t tmpfs -o noexec t /run; cd /root; sh ./b.sh --version"'
case_ 'a read-only folder' try 'unshare -m sh -c "mkdir -p /srv/ro; mount -t tmpfs t /srv/ro; cp /root/b.sh /srv/ro/; mount -o remount,ro /srv/ro; cd /srv/ro; ./b.sh --version"'
case_ 'a full /tmp' try 'unshare -m sh -c "mount -t tmpfs -o size=64k t /tmp; cd /root; TMPDIR=/tmp sh ./b.sh --version"'
case_ 'umask 077, empty environment' try 'cd /root; umask 077; env -i sh ./b.sh --version'
case_ 'closed stdin' try 'cd /root; sh ./b.sh --version <&-'
case_ '--version-check reports' reports 'cd /root; sh ./b.sh --version-check'
case_ '--help is on stderr, exit 0' reports_help
case_ 'arguments arrive whole' argument_whole
case_ 'nothing is left in the temporary folders' leaves_no_litter
