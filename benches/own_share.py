"""own_share OBJECT JOURNAL: milliseconds that our own processes of one run needed themselves: all, but for other programs and
the network. OBJECT is what `--json` printed, JOURNAL the host's journal: the package's scripts write theirs there."""
import json
import sys


def own(ms):
    return ms["all"] - ms["tools"] - ms["network"]


with open(sys.argv[1], encoding="utf-8") as file:
    total = own(json.loads(file.read().strip().splitlines()[-1])["ms"])
process, scripts = {}, {}
with open(sys.argv[2], encoding="utf-8") as file:
    for line in map(json.loads, file):
        if line["event"] == "run":
            process[line["run"]] = (line["process"]["pid"], line["what"])
        elif "ms" in line:
            pid, what = process[line["run"]]
            # Of one process the last line counts: its numbers go on growing.
            if what.startswith(("configure", "resume", "clear", "move")):
                scripts[pid] = own(line["ms"])
print(total + sum(scripts.values()))
