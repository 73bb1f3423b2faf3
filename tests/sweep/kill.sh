#!/bin/bash
# kill ROOT [MINUTES]   the crash sweep: dies or fails at one system call, then the same command again: exactly the clean end
# state. One case is one instance. Commands: install, whole (--install with omi and scx in the bundle), onboard, upgrade, original (the upgrade from it), remove, purge. Processes: the bundle's program, dpkg or
# rpm, the package's scripts. Calls: every rename, unlink, mkdir, link, fsync, chown, chmod and creating open that the process does.
# Faults: kill -9 at the call; ENOSPC or EIO from it.  Without MINUTES every case; else a random choice for that long, once
# the clean runs are known. EVERY=k: of each command, process, fault and call the k-th, 2k-th ... and the first, and every kill of our
# own processes at a line of the journal.
#   COMMANDS="install purge" PROCESSES="bundle" FAULTS="kill" limit it; SEED=n repeats a choice; LIST=1 only counts;
#   CASE="install bundle kill 1 rename 3" is one case with its output.
. "$(dirname "$(readlink -f "$0")")/../system/lib.sh"
# shellcheck disable=SC2034
HERE=$(dirname "$(readlink -f "$0")")
. "$HERE/next.sh"
. "$SYS/companions.sh"
minutes=${2:-0}
commands=${COMMANDS:-install whole onboard upgrade original remove purge} processes=${PROCESSES:-bundle packages scripts} faults=${FAULTS:-kill error}
SEED=${SEED:-$RANDOM}
logs=${SWEEP_LOGS:-$TOP/target/test-logs/sweep}/kill.$ROOT; rm -rf "$logs"; mkdir -p "$logs"
img=$(mktemp -d /dev/shm/omsagent-sweep.XXXXXX 2>/dev/null || mktemp -d "$WORK/img.XXXXXX")
trap 'rm -rf "$img"; finish' EXIT
tools=$("$RIG/lib/mktools")
seq_=0

command_of() { # NAME: the words after `sh`
    case $1 in
        install | original) echo "/mnt/dist/$BUNDLE_NAME --upgrade";;
        whole) echo '/mnt/k/whole.sh --install';;
        onboard) echo "/mnt/dist/$BUNDLE_NAME --upgrade -w $WS --shared-key-file /mnt/k/key -d $DOMAIN --ca-file /mnt/k/ca.pem";;
        upgrade) echo '/mnt/k/next.sh --upgrade';;
        remove) echo "/mnt/dist/$BUNDLE_NAME --remove";;
        purge) echo "/mnt/dist/$BUNDLE_NAME --purge";;
    esac
}
# What a command starts from: a bare system, one with the package, one with a workspace.
disk_of() { case $1 in install | whole) echo bare;; onboard) echo package;; original) echo original;; *) echo workspace;; esac; }

# fresh DISK: a booted instance $name from a copy of that disk.
fresh() {
    seq_=$((seq_ + 1)); name=sw$$x$seq_
    cp --sparse=always "$img/$1" "$img/$name"
    # shellcheck disable=SC2034
    INSTANCES=()
    start $name --disk "img:$img/$name" --bind-ro "$tools:/mnt/tools" --bind-ro "$HERE:/mnt/s"
}
gone() { "$RIG/down" --now $name >/dev/null 2>&1; rm -f "$img/$name"; INSTANCES=(); }
state() { # FILE: everything that the end of a command is compared by
    # The agent's queues and logs are its own affair, what each run wrote down of itself (journal, logs) differs by the number of
    # runs, and dpkg's next change folds dpkg's journal in. A killed userdel leaves its lock and its draft, which the next one
    # that changes accounts takes over.
    { inside $name list | grep -vE ' /var/opt/microsoft/omsagent/[0-9a-f-]{36}/(state|log)/| /var/lib/omsagent/[^ ]+ $| /var/lib/dpkg/updates/[0-9]+ $| /etc/(sub[ug]id|g?shadow|passwd|group)\.(lock|[0-9]+) '
      sh_ $name 'cat /var/lib/omsagent/accounts 2>/dev/null'; echo '-- accounts'; inside $name accounts; echo '-- ours'; inside $name ours
      echo '-- packages'; sh_ $name 'if command -v dpkg >/dev/null; then dpkg -l | grep -E "oms|omi|scx|^..[^ ] " || true; dpkg --audit; else rpm -qa | grep -E "oms|omi|scx" | sort; fi'
      echo '-- sudo'; sh_ $name 'visudo -cq && echo fine'
      echo '-- doctor'; sh_ $name '! command -v omsagent >/dev/null || omsagent doctor --install | grep -oE "^(ERROR|warning) +[a-z-]+" || true'
      echo '-- agent'; sh_ $name "systemctl is-active $(agent_unit); systemctl is-enabled $(agent_unit) 2>/dev/null; systemctl --failed --no-legend --plain"
    } >"$1" 2>&1
}

# The original's stand-in with one workspace, whose identity the hub knows.
lay_original() {
    local format=deb install='dpkg --force-confdef -i' p
    ! is_rpm || { format=rpm install='rpm -i --nosignature'; }
    "$TOP/tests/system/original/make" $format "$WORK/k/o"; chmod -R a+rX "$WORK/k/o"
    for p in omi scx omsagent; do sh_ $name "$install /mnt/k/o/$p.$format"; done
    on $name /mnt/t/original/lay multi "$WS"
}

prepare() {
    local d
    next_bundle "$WORK/k"
    mkdir "$WORK/c"
    "$BINARY" pack build --runner "x86_64=$BINARY" --package "$(own_package)" "$(companion omi 1.8.1-0 "$WORK/c")" "$(companion scx 1.8.1-0 "$WORK/c")" --out "$WORK/k/whole.sh" >/dev/null || stage_broken 'the whole bundle could not be built'
    truncate -s 600M "$img/bare"
    local disks='package workspace' f
    case " $commands ${CASE:-} " in *' original '*) disks+=' original';; esac
    for d in $disks; do
        cp --sparse=always "$img/bare" "$img/$d.new"; mv "$img/$d.new" "$img/$d"
        INSTANCES=(); name=sw$$$d
        start $name --disk "img:$img/$d"
        hub_start $name
        case $d in package) bundle $name --upgrade;; workspace) bundle $name "${UPGRADE[@]}";; original) lay_original;; esac >"$WORK/prepare" 2>&1 || { cat "$WORK/prepare"; stage_broken "no $d disk"; }
        [ $d != workspace ] || for f in conf/omsadmin.conf certs/oms.crt certs/oms.key; do mkdir -p "$WORK/k/id/$WS"; sh_ $name "cat /etc/opt/microsoft/omsagent/$WS/$f" >"$WORK/k/id/$WS/${f##*/}"; done
        hub_stop
        "$RIG/down" $name >/dev/null 2>&1      # a clean shutdown: all is on the disk
    done
    # shellcheck disable=SC2034
    INSTANCES=()
}

# The calls of one log: `CALL ORDINAL`, those that make, change or take away something.
points() { awk '{ sub(/^[0-9]+ +/, ""); i = index($0, "("); if (!i) next; c = substr($0, 1, i - 1); n[c]++
        if ((c == "open" || c == "openat") && !/O_CREAT/) next
        if (c == "write" && /^write\([012],/) next
        print c, n[c] }' "$1"; }

# survey COMMAND: its clean end state, and every point of it.
survey() {
    local c=$1 p f n call k words
    read -ra words <<<"$(command_of "$c")"
    for p in $processes; do
        fresh "$(disk_of "$c")"; [ "$c" != onboard ] || hub_start $name
        on $name /mnt/s/faulty "$p" 0 none sh "${words[@]}" >"$logs/$c.$p.survey" 2>&1 || { tail -n 20 "$logs/$c.$p.survey"; stage_broken "$c does not work without a fault"; }
        sh_ $name 'cat /mnt/fault/seq' >"$WORK/seq"
        for n in $(seq 1 "$(cat "$WORK/seq")"); do
            sh_ $name "cat /mnt/fault/log.$n" >"$WORK/log"
            points "$WORK/log" | while read -r call k; do
                for f in $faults; do
                    case $f.$call in kill.write | kill.pwrite64) continue;; error.*ch*) continue;; esac
                    echo "$c $p $f $n $call $k"
                done
            done
        done
        sh_ $name "sh ${words[*]}" >/dev/null 2>&1
        [ -e "$logs/$c.want" ] || state "$logs/$c.want"
        hub_stop; gone
    done
}

# one COMMAND PROCESS FAULT SEQ CALL K
one() {
    local c=$1 p=$2 f=$3 n=$4 call=$5 k=$6 words inject id rc=0 again=0
    id=$c.$p.$f.$n.$call.$k
    case $f.$call in kill.*) inject=$call:signal=KILL:when=$k;; error.*sync | error.unlink* | error.rmdir) inject=$call:error=EIO:when=$k;; *) inject=$call:error=ENOSPC:when=$k;; esac
    read -ra words <<<"$(command_of "$c")"
    fresh "$(disk_of "$c")"; [ "$c" != onboard ] || hub_start $name
    timeout 120 "$RIG/exec" $name -- /mnt/s/faulty "$p" "$n" "$inject" sh "${words[@]}" >"$logs/$id" 2>&1 </dev/null || rc=$?
    echo "=== exit $rc; again" >>"$logs/$id"
    # What was orphaned by a killed parent comes to its end by itself.
    sh_ $name 'for i in $(seq 1 200); do pgrep -x "dpkg|rpm" >/dev/null || exit 0; sleep 0.1; done'
    sh_ $name "sh ${words[*]}" >>"$logs/$id" 2>&1 </dev/null || again=$?
    echo "=== exit $again" >>"$logs/$id"
    state "$logs/$id.state"
    hub_stop; gone
    local why=''
    # Done already, --install says so; that it is, the state shows.
    [ "$c.$again" != whole.23 ] || again=0
    [ $again = 0 ] || why="the second run exits $again"
    diff "$logs/$c.want" "$logs/$id.state" >"$logs/$id.diff" || why+="${why:+; }the end state differs in $(grep -c '^[<>]' "$logs/$id.diff") lines"
    tried=$((tried + 1))
    if [ -n "$why" ]; then
        echo "FAIL   $ROOT: CASE='$c $p $f $n $call $k': first exit $rc; $why"; bad=$((bad + 1))
        { grep -vE '^(Selecting|\(Reading|Preparing|Setting up|Unpacking)' "$logs/$id" | tail -n 12; head -n 8 "$logs/$id.diff"; } | cut -c1-200 | sed 's/^/       | /'
    else rm -f "$logs/$id" "$logs/$id.state" "$logs/$id.diff"; fi
}

prepare
tried=0 bad=0
if [ -n "${CASE:-}" ]; then
    read -ra one_case <<<"$CASE"
    processes=${one_case[1]}; survey "${one_case[0]}" >/dev/null
    one "${one_case[@]}"; PASSED=$((tried - bad)) FAILED=$bad; exit 0
fi
for c in $commands; do survey "$c"; done >"$logs/all"
total=$(wc -l <"$logs/all")
if [ -n "${EVERY:-}" ]; then
    # The journal's lines are what our processes fsync most.
    awk -v k="$EVERY" '{ g = $1 $2 $3 $5; n[g]++ } $2 != "packages" && $3 == "kill" && $5 ~ /sync$/ || n[g] % k == 1 || k == 1' "$logs/all" >"$logs/cases"
else cp "$logs/all" "$logs/cases"; fi
[ -z "${LIST:-}" ] || { cut -d' ' -f1-3 "$logs/cases" | sort | uniq -c; echo "$ROOT: $total cases"; PASSED=1; exit 0; }
deadline=$((SECONDS + minutes * 60))
while read -r -a the <&3; do
    [ "$minutes" = 0 ] || [ $SECONDS -lt $deadline ] || break
    one "${the[@]}"
done 3< <(if [ "$minutes" = 0 ]; then cat "$logs/cases"; else shuf --random-source=<(openssl enc -aes-256-ctr -pass "pass:$SEED" -nosalt </dev/zero 2>/dev/null) "$logs/cases"; fi)
PASSED=$((tried - bad)) FAILED=$bad
echo "sweep kill $ROOT: $tried of $total cases tried, $bad failed (seed $SEED)"
exit 0
