#!/bin/bash
# aarch64   the bundle for the other processor, run by qemu's user emulation: the program answers, reads packages, and does the
# bundle's work. `make bundle ARCH=aarch64` makes what it runs; without that, or without qemu, it is SKIPPED, loudly, and in CI fails.
. "$(dirname "$(readlink -f "$0")")/lib.sh"
ROOT=aarch64
QEMU=$(command -v qemu-aarch64-static || command -v qemu-aarch64 || true)
PROGRAM=$DIST/aarch64/omsagent
ARM=$(find "$DIST" -maxdepth 1 -name 'omsagent-*.universal.arm64.sh' | sort | tail -n 1)

skipped() { # WHY
    echo "SKIPPED aarch64: $1"
    echo "NOTE: the aarch64 build was not tried: $1"
    trap - EXIT; stage_end
    if [ "${CI:-}" = true ]; then echo 'FAIL   aarch64: not tried'; echo 'aarch64: 0 passed, 1 failed'; exit 1; fi
    echo 'aarch64: 0 passed, 0 failed'
    exit 0
}
[ -n "$QEMU" ] || skipped 'no qemu-user-static on this machine'
[ -x "$PROGRAM" ] && [ -n "$ARM" ] || skipped "no bundle for aarch64 in dist/: make bundle ARCH=aarch64"

is_static() { file "$PROGRAM" | tee "$OUT"; said 'ARM aarch64'; said 'statically linked|static-pie'; }
answers() { exits 0 "$QEMU" "$PROGRAM" --version; equal "$(cat "$OUT.out")" "$("$BINARY" --version)" '--version'; }
inspects() {
    exits 0 "$QEMU" "$PROGRAM" pack inspect "$ARM"; cp "$OUT" "$WORK/there"
    exits 0 "$BINARY" pack inspect "$ARM"; same_file "$OUT" "$WORK/there"
    said 'arm64|aarch64' "$WORK/there"
}
# As the stub starts it: the bundle open on descriptor 8. The stub itself asks the machine's processor, which is another here.
as_bundle() { (cd "$WORK/x" && exec env OMSB_SELF="$ARM" "$QEMU" -0 omsbundle "$PROGRAM" "$@" 8<"$ARM"); }
version_check() { exits 0 as_bundle --version-check; said '^omsagent .*2\.0\.0\.1'; said 'exiting with status code 0$'; }
# No script knows older names of packages for this processor: they have their own.
extracts() {
    exits 0 as_bundle --extract
    find "$WORK/x" -type f | tee "$OUT"; said '/omsbundle\.[0-9]+/100/omsagent_.*_arm64\.deb$'; said '/omsbundle\.[0-9]+/100/omsagent-.*\.aarch64\.rpm$'
    cmp "$(find "$WORK/x" -path '*/100/*.deb' -type f)" "$DIST"/omsagent_*_arm64.deb
}
refused_here() {
    # The whole file on this processor: says that it has nothing for it.
    local rc=0; sh "$ARM" --version-check >"$OUT" 2>&1 </dev/null || rc=$?
    [ $rc != 0 ]; said 'x86_64'
}

mkdir "$WORK/x"
case_ 'the program is static, for aarch64' is_static
case_ '--version' answers
case_ 'pack inspect says the same as on this processor' inspects
case_ '--version-check, as the stub starts it' version_check
case_ '--extract, as the stub starts it' extracts
case_ 'the bundle refuses this processor by name' refused_here
