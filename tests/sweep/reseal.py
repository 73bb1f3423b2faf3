"""reseal GOOD OUT NUMBER FOLDER: a bundle whose index was written on purpose, with every number, hash and checksum around it made
to fit. NUMBER chooses what it says; FOLDER is where it would like to write. Prints what was done; exit 3: that was the last one."""
import copy
import hashlib
import json
import re
import struct
import sys
import zlib

STUB, SIGNATURE, TRAILER, ALIGN = 8192, 1024, 128, 4096
good, out, number, folder = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4]
data = open(good, "rb").read()
trailer = data[-TRAILER:]
offset, length = struct.unpack_from("<QQ", trailer, 16)
lines = data[offset : offset + length].decode().rstrip("\n").split("\n")
header, entries = json.loads(lines[0]), [json.loads(line) for line in lines[1:]]
packages = [e for e in entries if e["kind"] in ("deb", "rpm")]
last = packages[-1]


def name(text):
    return lambda: last.update(name=text)


def numbers(**fields):
    return lambda: last.update(fields)


def twice():
    entries.append(copy.deepcopy(last))


def swapped():
    entries.reverse()


def gone():
    entries.remove(last)


def everything():
    entries.extend(copy.deepcopy(last) for _ in range(20000))


def counted(n):
    return lambda: header.update(entries=n)


def kind(word):
    return lambda: last.update(kind=word)


CASES = [
    ("a name that leads up", name("../../canary/file")),
    ("an absolute name", name(folder + "/canary/new")),
    ("a name of dots", name("..")),
    ("a name with a zero byte", name("a\0b")),
    ("an empty name", name("")),
    ("a name with a line end", name("a\nb")),
    ("a name with a command", name("$(touch " + folder + "/canary/x)")),
    ("a very long name", name("x" * 5000)),
    ("the name of another", name(entries[0]["name"])),
    ("it begins beyond the end", numbers(offset=1 << 62)),
    ("it begins before the first", numbers(offset=0)),
    ("it overlaps another", numbers(offset=last["offset"] - ALIGN)),
    ("a size beyond all", numbers(size=(1 << 64) - 1)),
    ("a size past the index", numbers(size=last["size"] + (1 << 20))),
    ("size nothing", numbers(size=0)),
    ("a negative size", numbers(size=-1)),
    ("another hash", numbers(sha256="0" * 64)),
    ("a hash that is none", numbers(sha256="zz")),
    ("the same entry twice", twice),
    ("entries in another order", swapped),
    ("an entry left out", gone),
    ("twenty thousand entries", everything),
    ("more entries said than there are", counted(1 << 60)),
    ("no entries said", counted(0)),
    ("a package that is a program", kind("runner")),
    ("a package that is a stub", kind("stub")),
    ("a kind nobody knows", kind("device")),
]
if number >= len(CASES):
    sys.exit(3)
what, change = CASES[number]
change()
if "entries said" not in what:
    header["entries"] = len(entries)


def written():
    return "".join(json.dumps(x, separators=(",", ":"), ensure_ascii=False) + "\n" for x in [header, *entries]).encode()


# The stub knows how long all is, and the index knows the stub's hash: both keep their length.
size = len(written())
total = offset + size + SIGNATURE + TRAILER
stub = data[:STUB].rstrip(b"\n")
stub = re.sub(rb"(?m)^# index \d+ \d+$", b"# index %d %d" % (offset, size), stub)
stub = re.sub(rb"(?m)^total=\d+$", b"total=%d" % total, stub).ljust(STUB, b"\n")
for entry in entries:
    if entry["kind"] == "stub" and entry["offset"] == 0:
        entry["sha256"] = hashlib.sha256(stub).hexdigest()
index = written()
assert len(index) == size and len(stub) == STUB
tail = bytearray(trailer)
struct.pack_into("<QQ", tail, 16, offset, size)
tail[32:64] = hashlib.sha256(index).digest()
struct.pack_into("<QQQ", tail, 64, offset + size, 0, total)
struct.pack_into("<I", tail, TRAILER - 4, zlib.crc32(bytes(tail[: TRAILER - 4])))
with open(out, "wb") as file:
    file.write(stub + data[STUB:offset] + index + bytes(SIGNATURE) + bytes(tail))
print(what)
