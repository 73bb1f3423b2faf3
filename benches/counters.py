#!/usr/bin/env python3
"""counters.py BINARY   processor time of one look at all performance counters of this host, in milliseconds.

500 more processes are started, which sleep. An agent with a source for each of the seven objects, all counters of all instances,
looks once a second; what its collecting thread used in 15 s (by the kernel's own clock) is divided by the looks it took. Making
the items and writing them to the queue is part of it.
"""
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time

PROCESSES = 500
SECONDS = 15
OBJECTS = ["Processor", "Memory", "Network", "Logical Disk", "Physical Disk", "System", "Process"]


def sleeper() -> int:
    pid = os.fork()
    if pid == 0:
        while True:
            signal.pause()
    return pid


def looks(folder: str) -> int:
    with socket.socket(socket.AF_UNIX) as asked:
        asked.connect(f"{folder}/omsagent.sock")
        text = b"".join(iter(lambda: asked.recv(1 << 16), b""))
    inputs = [i for i in json.loads(text)["inputs"] if i["type"] == "oms_omi"]
    # Memory has one instance.
    return inputs[OBJECTS.index("Memory")]["received"]


def spent(pid: int) -> float:
    """Milliseconds of the thread that collects."""
    for task in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{task}/comm") as name:
            if name.read().strip() != "counters":
                continue
        with open(f"/proc/{pid}/task/{task}/schedstat") as stat:
            return int(stat.read().split()[0]) / 1e6
    raise SystemExit("the agent has no thread called counters")


def main() -> None:
    binary = os.path.abspath(sys.argv[1])
    sleepers, agent = [], None
    with tempfile.TemporaryDirectory() as folder:
        try:
            sleepers.extend(sleeper() for _ in range(PROCESSES))
            with open(f"{folder}/omsagent.conf", "w") as conf:
                for name in OBJECTS:
                    conf.write(f'<source>\n type oms_omi\n object_name "{name}"\n interval 1s\n</source>\n')
                conf.write(f"<match **>\n type out_oms\n omsadmin_conf_path {folder}/none\n buffer_path {folder}/q*.buffer\n</match>\n")
            agent = subprocess.Popen(
                [binary, "run", "-d", f"{folder}/pid", "-o", f"{folder}/log", "-c", f"{folder}/omsagent.conf", "--no-supervisor"]
            )
            time.sleep(3)
            before, looked = spent(agent.pid), looks(folder)
            time.sleep(SECONDS)
            after, then = spent(agent.pid), looks(folder)
            if then - looked < SECONDS // 2:
                raise SystemExit(f"only {then - looked} looks in {SECONDS} s")
            print(f"{(after - before) / (then - looked):.2f}")
        finally:
            if agent:
                agent.terminate()
                agent.wait()
            for pid in sleepers:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)


main()
