# shellcheck shell=bash
# The next release: the same program under another number, packed into a bundle of its own. Sourced after ../system/lib.sh.
NEXT=2.0.1-1

# next_bundle FOLDER [NAME CHANGE...]: makes FOLDER/NAME.sh (`next`). What the program knows of its number is compiled in, as text of
# the same length; each CHANGE is one more command for sed, which must keep every length too.
next_bundle() {
    local d=$1 name=${2:-next} now next=${NEXT%-*} change more=()
    shift; [ $# = 0 ] || shift
    for change; do more+=(-e "$change"); done
    now=$("$BINARY" --version | grep -oE '[0-9]+\.[0-9]+\.[0-9]+' | head -n 1)
    mkdir -p "$d/next.d"
    LC_ALL=C sed -e "s/${now//./\\.}/$next/g" ${more[@]+"${more[@]}"} "$BINARY" >"$d/next.d/omsagent"; chmod 755 "$d/next.d/omsagent"
    "$d/next.d/omsagent" --version | grep -qF "$next" || stage_broken "no program of release $NEXT could be made"
    (   export SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-1}
        for f in deb rpm; do "$BINARY" pack $f --manifest "$TOP/bundle/omsagent.toml" --binary "$d/next.d/omsagent" --arch x86_64 --version-label $NEXT --out "$d/next.d" || exit; done
        "$BINARY" pack build --runner "x86_64=$d/next.d/omsagent" --package "$d"/next.d/*.deb "$d"/next.d/*.rpm --version-label $NEXT --out "$d/$name.sh"
    ) >"$WORK/next.log" 2>&1 || { cat "$WORK/next.log" >&2; stage_broken "no bundle of release $NEXT could be packed"; }
    rm -rf "$d/next.d"
}
