#!/bin/bash
# tests/sweep/mutate.sh [MUTATIONS [STARTED]]: damages 10000 bundles of each kind and opens them, then really starts
# STARTED (100) of them, and each whose index somebody has written on purpose (reseal.py), with watched files around. None may
# run, write outside its folder, or panic.
set -euo pipefail
cd "$(dirname "$(readlink -f "$0")")/../.."
mutations=${1:-10000} started=${2:-100}
program=${OMSAGENT:-target/debug/omsagent}
OMSAGENT_MUTATIONS=$mutations cargo test --locked --quiet --lib bundle::tests

[ -x "$program" ] || cargo build --locked --quiet
work=$(mktemp -d "${TMPDIR:-/var/tmp}/mutate.XXXXXX")
trap 'rm -rf "$work"' EXIT
mkdir "$work/canary" "$work/run" "$work/tmp"
echo untouched >"$work/canary/file"
cat >"$work/runner" <<END
#!/bin/sh
[ "\$1" = --stub-probe ] && echo omsb-probe-ok && exit 0
echo RAN >>"$work/ran"
END
"$program" pack build --runner x86_64="$work/runner" --runner aarch64="$work/runner" --out "$work/good.sh" >/dev/null
sh "$work/good.sh" --help >/dev/null 2>&1 || true
[ -s "$work/ran" ] || { echo 'the good bundle does not reach its runner' >&2; exit 1; }
rm "$work/ran"
before=$(find "$work/canary" -printf '%p %m %s %T@\n'; sha256sum "$work/canary/file")

# What the stub itself guards: its size numbers, and every byte of the runner. Its own text is the shell's.
size=$(stat -c %s "$work/good.sh")
end=$((8192 + $(stat -c %s "$work/runner")))
RANDOM=${SEED:-1}
for ((i = 0; i < started; i++)); do
	cp "$work/good.sh" "$work/run/b.sh"
	at=$((8192 + (RANDOM * 32768 + RANDOM) % (end - 8192)))
	case $((i % 4)) in
	0) old=$(od -An -tu1 -j "$at" -N 1 "$work/run/b.sh"); bit=$((1 << (RANDOM % 8)))
		printf "%b" "\\x$(printf %02x $((old ^ bit)))" | dd of="$work/run/b.sh" bs=1 seek="$at" conv=notrunc status=none ;;
	1) truncate -s $((8192 + RANDOM % (size - 8192))) "$work/run/b.sh" ;;
	2) head -c $((1 + RANDOM % 9000)) /dev/urandom >>"$work/run/b.sh" ;;
	3) dd if=/dev/urandom of="$work/run/b.sh" bs=1 seek="$at" count=16 conv=notrunc status=none ;;
	esac
	code=0
	(cd "$work/run" && TMPDIR=$work/tmp OMSB_TMPDIR=$work/tmp sh ./b.sh --extract) >"$work/said" 2>&1 || code=$?
	[ "$code" -ne 0 ] || { echo "case $i: exit code 0" >&2; exit 1; }
	[ ! -e "$work/ran" ] || { echo "case $i: a damaged bundle ran" >&2; exit 1; }
	! grep -q panicked "$work/said" || { cat "$work/said" >&2; exit 1; }
	[ -z "$(ls -A "$work/tmp")" ] || { echo "case $i: left something behind" >&2; exit 1; }
	[ "$(ls -A "$work/run")" = b.sh ] || { echo "case $i: wrote beside itself" >&2; exit 1; }
done
# Every number and hash fits: it is the program that must not believe the index. The program itself is the runner then.
cp "$program" "$work/program"; strip "$work/program" 2>/dev/null || true
printf '#!/bin/sh\n' >"$work/empty"
for format in deb rpm; do "$program" pack $format --manifest bundle/omsagent.toml --binary "$work/empty" --arch x86_64 --time 1 --out "$work" >/dev/null; done
"$program" pack build --runner x86_64="$work/program" --package "$work"/*.deb "$work"/*.rpm --out "$work/whole.sh" >/dev/null
start() {
	code=0
	(cd "$work/run" && TMPDIR=$work/tmp OMSB_TMPDIR=$work/tmp sh ./b.sh "$@") >"$work/said" 2>&1 || code=$?
}
cp "$work/whole.sh" "$work/run/b.sh"; start --extract
[ "$code" = 0 ] || { cat "$work/said" >&2; echo 'the good bundle is refused' >&2; exit 1; }
rm -rf "$work/run/omsbundle."*
resealed=0
while what=$(python3 tests/sweep/reseal.py "$work/whole.sh" "$work/run/b.sh" $resealed "$work"); do
	start --extract
	[ "$code" = 2 ] || { cat "$work/said" >&2; echo "resealed, $what: exit code $code" >&2; exit 1; }
	! grep -q panicked "$work/said" || { cat "$work/said" >&2; exit 1; }
	[ -z "$(ls -A "$work/tmp")" ] || { echo "resealed, $what: left something behind" >&2; exit 1; }
	[ "$(ls -A "$work/run")" = b.sh ] || { echo "resealed, $what: wrote beside itself" >&2; exit 1; }
	resealed=$((resealed + 1))
done
[ "$resealed" -gt 20 ] || { echo "only $resealed indexes were written" >&2; exit 1; }
after=$(find "$work/canary" -printf '%p %m %s %T@\n'; sha256sum "$work/canary/file")
[ "$before" = "$after" ] || { echo 'the files around were touched' >&2; exit 1; }
echo "sweep mutate bundles: $mutations damaged bundles of each kind refused, $started and $resealed resealed ones started: 0 ran, 0 wrote, 0 panicked"
echo 'mutate bundles: 1 passed, 0 failed'
