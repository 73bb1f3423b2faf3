# shellcheck shell=bash
# Packages of ours under the names of those that come with the original's omsagent. Sourced after lib.sh.

# companion NAME VERSION FOLDER: such a package file for $ROOT's package manager, in FOLDER; its path on stdout. The service tool of
# omi notes that it was called.
companion() {
    local name=$1 version=$2 folder=$3 format=deb place=/opt/microsoft/$1 tool=''
    ! is_rpm || format=rpm
    mkdir -p "$folder/$name"
    if [ "$name" = omi ]; then
        place=/opt/omi tool='[[dir]]
path = "/opt/omi/bin"
[[file]]
source = "control"
path = "/opt/omi/bin/service_control"
mode = 0o755'
        printf '#!/bin/sh\ntouch /omi-was-called\n' >"$folder/$name/control"
    fi
    cat >"$folder/$name/p.toml" <<X
name = "$name"
summary = "Stand-in"
description = "Stand-in for tests."
maintainer = "Test <t@example.org>"
vendor = "Test"
license = "MIT"
[deb]
section = "utils"
priority = "optional"
depends = []
[rpm]
group = "T"
requires = []
[[change]]
version = "$version"
date = "2026-01-01"
text = ["One."]
[[dir]]
path = "$place"
$tool
X
    SOURCE_DATE_EPOCH=1 "$BINARY" pack $format --manifest "$folder/$name/p.toml" --binary "$BINARY" --arch x86_64 --time 1700000000 --version-label "$version" --out "$folder"
}

# own_package: the file of omsagent in dist/ for $ROOT's package manager.
own_package() { if is_rpm; then find "$DIST" -maxdepth 1 -name 'omsagent-*.x86_64.rpm' | sort | tail -n 1; else find "$DIST" -maxdepth 1 -name 'omsagent_*_amd64.deb' | sort | tail -n 1; fi; }
