#!/usr/bin/env python3
"""measure.py RUNS SETUP COMMAND   the median time of COMMAND (a line of sh) in milliseconds, after one run to warm up.

SETUP (a line of sh, may be empty) runs before each and is not counted. With RUNS 0 the command is run once, cold.
"""
import statistics
import subprocess
import sys
import time


def once(setup: str, argv: list[str]) -> float:
    if setup:
        subprocess.run(["sh", "-c", setup], check=True)
    start = time.perf_counter()
    subprocess.run(argv, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return (time.perf_counter() - start) * 1000


def main() -> None:
    runs, setup, command = int(sys.argv[1]), sys.argv[2], sys.argv[3]
    # A plain command is started without a shell in between.
    argv = ["sh", "-c", command] if any(c in command for c in "|;&><$*") else command.split()
    if runs == 0:
        print(f"{once(setup, argv):.2f}")
        return
    once(setup, argv)
    print(f"{statistics.median(once(setup, argv) for _ in range(runs)):.2f}")


main()
