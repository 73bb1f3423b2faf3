#!/bin/sh
code=2; trap 'exit "$code"' 0 #
line=; { [ -f "$0" ] && IFS= read -r line <"$0"; } 2>/dev/null || : #
case $line in #
'#!/bin/sh') ;; #
'#!/bin/sh'?) echo "omsagent bundle: damaged: its line ends were changed, as by a text-mode transfer; download it again" >&2; exit 2 ;; #
*) echo "omsagent bundle: cannot read \`$0' as the bundle; it cannot be piped: save it to a file, then run \`sh FILE'" >&2; exit 2 ;; #
esac #
# The beginning of an omsagent bundle: everything behind this script is binary. It copies the
# program for this machine to a folder it can run from, and hands over to it, with the bundle
# open on descriptor 8. If this file is cut off anywhere, the trap above makes the exit code 2;
# up to here every line ends in a comment, so that the message comes even when CRs were added.
# Needs: sh, ls, dd, mktemp, chmod, rm, uname, and cksum or (some busybox has none) sha256sum.
# index @INDEX_OFFSET@ @INDEX_LENGTH@
total=@TOTAL@
self=$0
place=

fail() {
	code=$1
	shift
	echo "omsagent bundle: $*" >&2
	exit "$code"
}

stop() {
	code=$1
	[ -z "$place" ] || rm -rf "$place"
	exit "$code"
}

measure() {
	set -f
	set -- $(ls -lnL "$self" 2>/dev/null)
	set +f
	size=${5:-0}
}

part() {
	dd if="$self" bs=4096 skip="$skip" count="$count" 2>/dev/null
}

same() {
	case $(cksum 2>/dev/null || sha256sum 2>/dev/null) in
	"$sum" | "$hash  -") return 0 ;;
	esac
	return 1
}

# A copy that does not match: is it the copy's fault?
damaged() {
	part | same && return
	rm -rf "$place"
	command -v cksum >/dev/null || command -v sha256sum >/dev/null ||
		fail 2 "neither \`cksum' nor \`sha256sum' is installed"
	fail 2 "damaged: entry \`$name' does not match its checksum; download it again"
}

main() {
	set +eu
	unset IFS
	{ true <&0; } 2>/dev/null || exec </dev/null
	{ true 3>&1; } 2>/dev/null || exec >/dev/null
	{ true 3>&2; } 2>/dev/null || exec 2>/dev/null
	case $self in
	-*) self=./$self ;;
	esac
	PATH=/sbin:/bin:/usr/sbin:/usr/bin
	export PATH
	umask 022

	measure
	if [ "$size" != "$total" ]; then
		if [ "$size" -lt "$total" ]; then
			fail 2 "truncated: $size of $total bytes; download it again"
		fi
		fail 2 "damaged: $((size - total)) bytes too many at its end; download it again"
	fi

	case ${1-} in
	--version)
		code=0
		echo 'Version: @VERSION@'
		exit 0
		;;
	esac

	machine=$(uname -m 2>/dev/null)
	case $machine in
@RUNNERS@
	*) fail 6 "not made for this processor (\`$machine'), only for: @MACHINES@" ;;
	esac
	trap 'stop 129' 1
	trap 'stop 130' 2
	trap 'stop 143' 15
	tried=
	for folder in "${OMSB_TMPDIR-}" "${TMPDIR-}" /run /var/tmp /tmp /opt /root; do
		case $folder in
		/*) [ -d "$folder" ] || continue ;;
		*) continue ;;
		esac
		if place=$(mktemp -d "$folder/omsb.XXXXXX" 2>/dev/null); then
			if { part >"$place/omsbundle"; } 2>/dev/null && chmod 700 "$place/omsbundle" &&
				same <"$place/omsbundle"; then
				if [ "$({ "$place/omsbundle" --stub-probe </dev/null; } 2>/dev/null)" = omsb-probe-ok ]; then
					OMSB_SELF=$self
					OMSB_RUNDIR=$place
					export OMSB_SELF OMSB_RUNDIR
					exec "$place/omsbundle" "$@" 8<"$self"
				fi
				why='programs cannot be run there (mounted noexec, or a security policy)'
			else
				why='no room'
				damaged
			fi
			rm -rf "$place"
		else
			why='cannot write there'
		fi
		place=
		tried="$tried
  $folder: $why"
	done
	fail 2 "found no folder to run from:$tried
Set OMSB_TMPDIR to a folder with $((count / 256 + 1)) MB of room from which programs can be run."
}

main "$@"; exit 2
