#!/bin/bash
# bare   a root with nothing in it but busybox and dpkg (and what dpkg itself is linked to or depends on): the static bundle
# runs there, extracts, and installs. Without dpkg, where there is nothing but busybox, it lays its files down itself.
. "$(dirname "$(readlink -f "$0")")/lib.sh"
R=$WORK/root

# Debian's own dpkg with its libraries and tar (which the dpkg package depends on), from the rig's base system; all else busybox,
# whose own imitations of dpkg and rpm are left out. Its shell prefers applets to files, so scripts here say /usr/bin/dpkg.
make_root() {
    local base=${RIG_VAR:-/var/tmp/rig}/roots/bookworm f lib
    "$RIG/mkroot" bookworm >/dev/null 2>&1
    mkdir -p "$R"/{bin,sbin,usr/bin,usr/sbin,etc,dev,proc,run,tmp,root,var/tmp,var/log,var/lib/dpkg/{info,updates,triggers},usr/share/dpkg}
    cp "$(command -v busybox)" "$R/bin/busybox"
    "$R/bin/busybox" --list-full | grep -vE '(^|/)(busybox|dpkg|dpkg-deb|rpm|rpm2cpio|tar)$' | while read -r f; do
        mkdir -p "$R/$(dirname "$f")"; ln -sf /bin/busybox "$R/$f"; done
    for f in dpkg dpkg-deb dpkg-query dpkg-split dpkg-divert dpkg-statoverride dpkg-trigger tar; do
        cp "$(readlink -f "$base/usr/bin/$f")" "$R/usr/bin/$f"
        chroot "$base" ldd "/usr/bin/$f" | grep -oE '/[^ ]+' | while read -r lib; do mkdir -p "$R/$(dirname "$lib")"; cp -nL "$base$lib" "$R$lib"; done
    done
    cp -L "$base/sbin/ldconfig" "$R/sbin/"      # dpkg refuses to work without
    cp -r "$base/usr/share/dpkg/." "$R/usr/share/dpkg/"
    touch "$R/var/lib/dpkg/status" "$R/var/lib/dpkg/available"
    printf 'root:x:0:0:root:/root:/bin/sh\n' >"$R/etc/passwd"; printf 'root:x:0:\n' >"$R/etc/group"
    printf 'root:*:19000::::::\n' >"$R/etc/shadow"; printf 'PRETTY_NAME="busybox and dpkg"\nID=bare\n' >"$R/etc/os-release"
    mknod -m 666 "$R/dev/null" c 1 3; mknod -m 666 "$R/dev/urandom" c 1 9; mknod -m 666 "$R/dev/random" c 1 9; mknod -m 666 "$R/dev/tty" c 5 0
    cp "$BUNDLE" "$R/root/b.sh"
}
# in_root SCRIPT: with its own mounts, processes and (empty) network.
in_root() {
    unshare --mount --pid --net --fork --kill-child sh -c 'mount -t proc proc "$1/proc" && exec env -i PATH=/sbin:/bin:/usr/sbin:/usr/bin HOME=/root chroot "$1" /bin/sh -c "cd /root; $2"' sh "$R" "$1"
}

nothing_else() {
    no ls "$R"/bin/bash "$R"/usr/bin/{perl,python3,gzip.gz,systemctl,sudo} 2>/dev/null
    in_root '/usr/bin/dpkg --version >/dev/null && busybox true'
}
help() { exits 0 in_root 'sh ./b.sh --help'; said '--upgrade'; exits 0 in_root 'sh ./b.sh --version'; said '^Version: 2\.0\.0\.1$'; }
version_check() { exits 0 in_root 'sh ./b.sh --version-check'; said 'status code 0'; }
extract() {
    exits 0 in_root 'mkdir x; cd x; sh ../b.sh --extract'
    in_root 'cd /root/x/omsbundle.*/100 && /usr/bin/dpkg-deb -I omsagent-2.0.0-1.universal.x64.deb | grep -q "Package: omsagent"'
    in_root 'rm -r /root/x'
}
before() {
    find "$R" -xdev -path "$R/proc" -prune -o -print | sort >"$WORK/before"; cp "$R/etc/passwd" "$WORK/passwd"; cp "$R/etc/group" "$WORK/group"
}
as_before() {
    find "$R" -xdev -path "$R/proc" -prune -o -print | sort >"$WORK/after"
    # dpkg's own books and logs, shadow's backups, and /run, which does not outlive a boot
    diff "$WORK/before" "$WORK/after" | grep '^[<>]' | grep -vE '/var/lib/dpkg/|/var/log/|^[<>] '"$R"'/run/|/etc/(passwd|group|shadow)-$|/etc/(gshadow|\.pwd\.lock)' >"$WORK/rest" || true
    cat "$WORK/rest"; [ ! -s "$WORK/rest" ]
    cmp "$WORK/passwd" "$R/etc/passwd"; cmp "$WORK/group" "$R/etc/group"
}
install() {
    exits 0 in_root 'sh ./b.sh --install'
    in_root '/usr/bin/dpkg-query -W -f "\${db:Status-Status} \${Version}\n" omsagent' | tee "$WORK/version"
    said '^installed 2\.0\.0-1$' "$WORK/version"
    in_root 'grep -q ^omsagent: /etc/passwd && grep -q ^omiusers: /etc/group && sh /opt/microsoft/omsagent/bin/omsadmin.sh -l | grep "No Workspace"'
}
purge() { exits 0 in_root 'sh ./b.sh --purge'; as_before; }
without_dpkg() {
    mkdir "$WORK/hidden"; mv "$R"/usr/bin/dpkg* "$WORK/hidden/"
    exits 0 in_root 'sh ./b.sh --help'
    exits 0 in_root 'sh ./b.sh --install'
    said 'Neither dpkg nor rpm is here'
    in_root 'grep -q ^omsagent: /etc/passwd && /usr/bin/omsagent --version && sh /opt/microsoft/omsagent/bin/omsadmin.sh -l | grep "No Workspace"'
    exits 0 in_root 'sh ./b.sh --version-check'; said '^omsagent +2\.0\.0\.1'
    exits 0 in_root 'sh ./b.sh --upgrade --detailed-exitcode'
    exits 0 in_root 'sh /opt/microsoft/omsagent/bin/uninstall'
    no in_root 'grep ^omsagent: /etc/passwd || ls /opt/microsoft'
    exits 0 in_root 'sh ./b.sh --purge'
    mv "$WORK/hidden"/* "$R/usr/bin/"
    as_before
}

ROOT=busybox+dpkg
case_ 'the root is made' make_root
case_ 'nothing but busybox and dpkg' nothing_else
case_ '--help, --version' help
case_ '--version-check' version_check
case_ '--extract' extract
before
case_ '--install, where nothing makes accounts but the product itself' install
case_ '--purge' purge
case_ 'nothing but busybox: laid down, removed, purged by our own code' without_dpkg
