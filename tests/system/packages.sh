#!/bin/bash
# packages   what the systems' own tools say of the binary and the packages: static, clean, the same twice.
. "$(dirname "$(readlink -f "$0")")/lib.sh"
ROOT=packages
DEB=$(find "$DIST" -maxdepth 1 -name 'omsagent_*_amd64.deb' | head -n 1)
PARTS=$DIST/parts.x86_64
RPM=$(find "$DIST" -maxdepth 1 -name 'omsagent-*.x86_64.rpm' | head -n 1)

static() {
    file "$BINARY" | tee "$OUT"; said 'statically linked'; said 'stripped'; unsaid 'not stripped'
    ldd "$BINARY" 2>&1 | tee "$OUT" || true; said 'not a dynamic executable'
}
no_path_of_the_build() {
    strings_of "$BINARY" >"$WORK/strings"
    no grep -nF -e "$TOP" -e "${CARGO_HOME:-$HOME/.cargo}" -e "${RUSTUP_HOME:-$HOME/.rustup}" "$WORK/strings"
}
strings_of() { LC_ALL=C grep -aoE '[[:print:]]{6,}' "$1"; }
lint_deb() {
    # -X: what only a Debian archive asks of its maintainers. Errors fail; warnings are shown.
    lintian --fail-on error --no-tag-display-limit "$DEB" >"$OUT" 2>&1 || { cat "$OUT"; return 1; }
    cat "$OUT"; unsaid '^E:'
}
lint_rpm() {
    rpmlint -c "$TOP/bundle/rpmlint.toml" "$RPM" >"$OUT" 2>&1 || { cat "$OUT"; return 1; }
    said ' 0 errors'
}
sums() { cd "$DIST" && sha256sum -c "$(basename "${BUNDLE%.sh}").sha256sums"; }
sound() { "$BINARY" pack verify "$BUNDLE"; "$BINARY" pack inspect "$BUNDLE"; }
same_twice() {
    local again=$WORK/again f commit from=(); mkdir "$again"
    commit=$(cat "$DIST/.commit" 2>/dev/null || true); [ -z "$commit" ] || from=(--source-reference "omsagent: $commit")
    for f in deb rpm; do "$BINARY" pack $f --manifest "$TOP/bundle/omsagent.toml" --binary "$BINARY" --arch x86_64 --licences "$PARTS/licences.txt" --out "$again"; done
    cmp "$DEB" "$again/${DEB##*/}"; cmp "$RPM" "$again/${RPM##*/}"
    "$BINARY" pack build --runner "x86_64=$BINARY" --package "$DEB" --package "$RPM" \
        --licence "$PARTS/licences.txt.gz" --sbom "$PARTS/sbom.cdx.json.gz" ${from[@]+"${from[@]}"} --out "$again/b.sh"
    cmp "$BUNDLE" "$again/b.sh"
}
parts() {
    "$BINARY" pack inspect "$BUNDLE" --show sbom.cdx.json.gz >"$OUT"
    said '"bomFormat": "CycloneDX"'; said 'pkg:cargo/rustls@'; said '"name": "sqlite"'
    "$BINARY" pack inspect "$BUNDLE" --show licences.txt.gz >"$OUT"
    said '^rustls [0-9.]*: '; said 'Permission is hereby granted'
    dpkg-deb --fsys-tarfile "$DEB" | tar -xO ./usr/share/doc/omsagent/licences.txt.gz | gunzip | cmp - "$PARTS/licences.txt"
}
auditable() {
    # Read by python, not by us: the section that scanners look for, against Cargo.lock.
    local locked; locked=$(grep -A1 '^name = "rustls"$' "$TOP/Cargo.lock" | sed -n 's/^version = "\(.*\)"/\1/p')
    objcopy -O binary --set-section-flags .dep-v0=alloc --only-section=.dep-v0 "$BINARY" "$WORK/deps"
    python3 -c 'import json, sys, zlib
for p in json.loads(zlib.decompress(open(sys.argv[1], "rb").read()))["packages"]: print(p["name"], p["version"])' "$WORK/deps" | tee "$OUT"
    said "^rustls $locked\$"; said '^omsagent 2\.'; unsaid '^proptest '
}
signed() {
    local own=$WORK/signed.sh
    "$BINARY" pack keys "$WORK/own"; cp "$BUNDLE" "$own"
    "$BINARY" pack sign --key "$WORK/own.key" "$own"
    "$BINARY" verify --public-key "$WORK/own.pub" "$own" | tee "$OUT"; said 'signed by key'
    cmp -s "$BUNDLE" "$own" && return 1
    minisign -Vm "$own" -p "$WORK/own.pub"
    printf x | dd of="$own" bs=1 seek=100000 conv=notrunc status=none
    no "$BINARY" verify --public-key "$WORK/own.pub" "$own"
}
stub_is_clean() {
    head -c 8192 "$BUNDLE" | sed 's/\x0.*//' >"$WORK/stub.sh"
    # 2046: `set -f` and the split of ls's line into words are meant. 2317: traps call what it thinks unreachable.
    shellcheck -s sh -e SC2046,SC2317 "$WORK/stub.sh"
    dash -n "$WORK/stub.sh"; busybox sh -n "$WORK/stub.sh"; bash -n "$WORK/stub.sh"
}

SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(cat "$DIST/.epoch")}; export SOURCE_DATE_EPOCH
case_ 'the binary is static and stripped' static
case_ 'no path of the build is in the binary' no_path_of_the_build
case_ 'lintian: no errors' lint_deb
case_ 'rpmlint: no errors' lint_rpm
case_ 'sha256sums' sums
case_ 'pack verify, pack inspect' sound
case_ 'list of parts and licences inside' parts
case_ 'list of crates inside the binary' auditable
case_ 'signed, and checked with our tool and minisign' signed
case_ 'the same bytes a second time' same_twice
case_ 'the stub is clean POSIX sh' stub_is_clean
