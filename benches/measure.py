#!/usr/bin/env python3
"""measure.py RUNS SETUP COMMAND [SETUP COMMAND]...   the best time of each COMMAND (a line of sh), in milliseconds, one a line.

measure.py --rss COMMAND   the largest resident set of COMMAND or of a process below it that it waited for, in MiB.
measure.py --cpu RUNS COMMAND   the least processor time of COMMAND and the processes it waited for, in milliseconds.

The commands take turns, after one round to warm up, so that whatever else the machine does meets all of them alike; the best
of RUNS is the time with the least of it. SETUP (a line of sh, may be empty) runs before its command and is not counted.
"""
import resource
import subprocess
import sys
import time


def once(setup: str, command: str) -> float:
    if setup:
        subprocess.run(["sh", "-c", setup], check=True)
    # A plain command is started without a shell in between.
    argv = ["sh", "-c", command] if any(c in command for c in "|;&><$*\"'") else command.split()
    quiet = subprocess.DEVNULL
    start = time.perf_counter()
    subprocess.run(argv, check=True, stdin=quiet, stdout=quiet, stderr=quiet)
    return (time.perf_counter() - start) * 1000


def main() -> None:
    if sys.argv[1] == "--rss":
        quiet = subprocess.DEVNULL
        # What is refused early needs little: such a figure would say nothing.
        subprocess.run(sys.argv[2].split(), stdin=quiet, stdout=quiet, stderr=quiet, check=True)
        print(f"{resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024:.1f}")
        return
    if sys.argv[1] == "--cpu":
        quiet, best = subprocess.DEVNULL, float("inf")
        for _ in range(int(sys.argv[2])):
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            subprocess.run(sys.argv[3].split(), stdin=quiet, stdout=quiet, stderr=quiet)
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            best = min(best, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
        print(f"{best * 1000:.2f}")
        return
    runs, words = int(sys.argv[1]), sys.argv[2:]
    pairs = list(zip(words[::2], words[1::2]))
    best = [once(*pair) for pair in pairs]
    for _ in range(runs):
        for i, pair in enumerate(pairs):
            best[i] = min(best[i], once(*pair))
    for ms in best:
        print(f"{ms:.2f}")


main()
