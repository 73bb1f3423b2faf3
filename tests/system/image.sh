#!/bin/bash
# image ROOT   --root DIR: the bundle installs into the root folder of an image, from within another system, which stays as it
# is; nothing is started. Two clones of the image boot, onboard themselves, and are two hosts. Last, the image is as before.
. "$(dirname "$(readlink -f "$0")")/lib.sh"
. "$SYS/companions.sh"
name=image$$
BASE=$ROOT
ROOTS=${RIG_VAR:-/var/tmp/rig}/roots
IMAGE=image$$-$ROOT
IMG=$ROOTS/$IMAGE
trap 'finish_image' EXIT
finish_image() { local rc=$?; "$RIG/down" --now "${INSTANCES[@]}" >/dev/null 2>&1; rm -rf --one-file-system "$IMG"; (exit $rc); finish; }

list_image() { find "$IMG" -xdev -printf '%y %m %U:%G %P %l\n' | sort -k4 | grep -vE ' (run/omsagent\.lock|etc/(passwd|group|shadow|gshadow|subuid|subgid)-|etc/\.pwd\.lock|var/log/(dpkg|alternatives)\.log|var/lib/dpkg/[^ ]*|var/lib/rpm/[^ ]*|var/cache/debconf/[^ ]*-old|etc/\.updated|var/cache/ldconfig[^ ]*) ' || true; }
accounts_of_image() { sort "$IMG/etc/passwd"; sort "$IMG/etc/group"; }
in_image() { bundle $name "$@" --root /mnt/img; }

make_image() {
    cp -a --reflink=auto "$ROOTS/$BASE" "$IMG"
    list_image >"$WORK/image.before"; accounts_of_image >"$WORK/image.accounts"
    [ "$(wc -l <"$WORK/image.before")" -gt 1000 ]
}
outside() { inside $name list >"$WORK/outside.$1"; inside $name accounts >>"$WORK/outside.$1"; inside $name pids >>"$WORK/outside.$1"; sh_ $name 'ls -A /tmp /var/tmp; ls /run | grep omsagent || true' >>"$WORK/outside.$1"; }
outside_as_before() { outside after; same_file "$WORK/outside.before" "$WORK/outside.after"; }

refusals() {
    exits 2 bundle $name --install --root /no/such; said 'no/such' "$OUT.err"
    sh_ $name 'mkdir -p /mnt/img/tmp/open && chmod 777 /mnt/img/tmp/open'
    exits 2 bundle $name --install --root /mnt/img/tmp/open; said 'nobody else may write' "$OUT.err"
    sh_ $name 'chown 65534 /mnt/img/tmp/open && chmod 755 /mnt/img/tmp/open'
    exits 2 bundle $name --install --root /mnt/img/tmp/open
    sh_ $name 'rmdir /mnt/img/tmp/open'
    exits 2 bundle $name --extract --root /mnt/img
    exits 2 bundle $name --install --root
    outside_as_before
}
dry_run() {
    exits 0 in_image --install -w "$WS" -s KEY -d "$DOMAIN" --dry-run; said 'would write /etc/omsagent-onboard.conf'
    list_image >"$WORK/image.dry"; same_file "$WORK/image.before" "$WORK/image.dry"
}
install() {
    exits 0 in_image --install -w "$WS" -s KEY -d "$DOMAIN" --ca-file /mnt/k/ca.pem
    said 'is onboarded later: omsagent-onboard.service' "$OUT.out"
    outside_as_before
    if is_rpm; then chroot "$IMG" rpm -q omsagent; else chroot "$IMG" dpkg -s omsagent | grep -q 'install ok installed'; fi
    grep -q ^omsagent: "$IMG/etc/passwd"
    equal "$(stat -c '%a %u:%g' "$IMG/etc/omsagent-onboard.conf")" '600 0:0' 'mode of the onboarding file'
    test -L "$IMG/etc/systemd/system/multi-user.target.wants/omsagent-onboard.service"
    # Nothing that makes this host this host.
    equal "$(find "$IMG/etc/opt" "$IMG/var/opt" -name 'oms.*' -o -name omsadmin.conf)" '' 'identity in the image'
}
again() { exits 0 in_image --install -w "$WS" -s KEY -d "$DOMAIN" --ca-file /mnt/k/ca.pem --detailed-exitcode; exits 100 in_image --install --detailed-exitcode --enable-opsmgr; outside_as_before; sh_ $name 'test ! -e /etc/scxagent-enable-port'; rm "$IMG/etc/scxagent-enable-port"; }
version_check() { exits 0 in_image --version-check; said '^omsagent +2\.0\.0\.1'; exits 0 bundle $name --version-check; said '^omsagent +None'; }

# No service yet: the attempt fails, and is not the last one.
waits() {
    local i
    for i in $(seq 1 60); do equal "$(sh_ "$1" 'systemctl show -p Result --value omsagent-onboard.service')" exit-code && break; sleep 0.5; done >/dev/null
    [ "$i" -lt 60 ]
    sh_ "$1" "test -e /etc/omsagent-onboard.conf && ! systemctl is-active --quiet $(agent_unit)"
}
first_boot() { # NAME: it onboards by itself
    local i mark="image-$1-$RANDOM"
    for i in $(seq 1 90); do sh_ "$1" "test ! -e /etc/omsagent-onboard.conf && systemctl is-active --quiet $(agent_unit)" && break; sleep 1; done
    [ "$i" -lt 90 ] || { sh_ "$1" 'systemctl status --no-pager omsagent-onboard.service; journalctl --no-pager -u omsagent-onboard.service' || true; wrong 'not onboarded in 90 s'; }
    sh_ "$1" "logger -t rigtest -p auth.warning '$mark'"
    arrives "$mark" 30
    sh_ "$1" "grep ^AGENT_GUID= /etc/opt/microsoft/omsagent/$WS/conf/omsadmin.conf" >"$WORK/guid.$1"
    equal "$(sh_ "$1" 'systemctl --failed --no-legend --plain')" ''
}
two_hosts() { no cmp -s "$WORK/guid.${name}a" "$WORK/guid.${name}b"; }
purge_of_a_clone() {
    exits 0 bundle "${name}b" --purge
    no sh_ "${name}b" 'ls -d /opt/microsoft /etc/opt/microsoft /usr/lib/systemd/system/omsagent* /etc/systemd/system/*/omsagent* 2>/dev/null || getent passwd omsagent'
}
purge() {
    exits 0 in_image --purge
    accounts_of_image >"$WORK/image.accounts.after"; same_file "$WORK/image.accounts" "$WORK/image.accounts.after"
    list_image >"$WORK/image.after"; same_file "$WORK/image.before" "$WORK/image.after"
    outside_as_before
}

# A bundle with an omi of ours: its service tool is not called where nothing runs.
omi_in_it() {
    local b=$WORK/k/b; mkdir -p "$b"; chmod 755 "$b"
    "$BINARY" pack build --runner "x86_64=$BINARY" --package "$(own_package)" "$(companion omi 1.8.1-0 "$b")" --out "$b/omi.sh" >/dev/null
    exits 0 sh_ $name 'cd /root; sh /mnt/k/b/omi.sh --install --root /mnt/img'
    said '^----- Installing package: omi ' "$OUT.out"
    test -x "$IMG/opt/omi/bin/service_control"; test ! -e "$IMG/omi-was-called"
    exits 0 sh_ $name 'cd /root; sh /mnt/k/b/omi.sh --purge --force --root /mnt/img'
    list_image >"$WORK/image.after"; same_file "$WORK/image.before" "$WORK/image.after"
    outside_as_before
}

# The host's dpkg or rpm is not the image's.
without_manager() {
    mkdir "$WORK/hidden"; find "$IMG/usr/bin" \( -name 'dpkg*' -o -name 'rpm*' \) -exec mv -t "$WORK/hidden" {} +
    list_image >"$WORK/image.before"
    exits 0 in_image --install; said 'Neither dpkg nor rpm is here' "$OUT.out"
    test -s "$IMG/var/lib/omsagent/portable.json"; test -x "$IMG/opt/microsoft/omsagent/bin/omsagent"
    test -L "$IMG/etc/systemd/system/multi-user.target.wants/omsagent-onboard.service"
    exits 0 in_image --install --detailed-exitcode
    exits 0 in_image --version-check; said '^omsagent +2\.0\.0\.1'
    exits 0 in_image --purge
    list_image >"$WORK/image.after"; same_file "$WORK/image.before" "$WORK/image.after"
    outside_as_before
}

case_ 'an image' make_image
start $name --bind "$IMG:/mnt/img"
hub_start $name    # for its certificates only
hub_stop
outside before
case_ 'what cannot be the root of an image: 2, nothing changed' refusals
case_ '--dry-run' dry_run
case_ '--install -w -s: in the image, nothing outside, nothing started, no identity' install
case_ 'the same again changes nothing' again
case_ '--version-check tells the image from the host' version_check
ROOT=$IMAGE start "${name}a"
case_ 'the first boot waits for a service that is not there yet' waits "${name}a"
hub_start "${name}a"
case_ 'and onboards when it is' first_boot "${name}a"
ROOT=$IMAGE start "${name}b"
hub_start "${name}b"
case_ 'another clone does, too' first_boot "${name}b"
case_ 'they are two hosts' two_hosts
case_ '--purge of a clone leaves nothing' purge_of_a_clone
"$RIG/down" --now "${name}a" "${name}b" >/dev/null 2>&1
case_ '--purge: the image is as before' purge
case_ 'omi in an image: installed, its service is not called' omi_in_it
case_ 'an image with neither dpkg nor rpm, where the host has one: laid down in it' without_manager
