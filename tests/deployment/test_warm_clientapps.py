"""ClientApps that start as forks of a process that stands by."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from supervised_silo import until

from fedloom.processes.child import alive

# Stands for the SuperExec: has three commands run, each of which says what it is in a file of its own (what
# several processes print to one file at once may overwrite one another); then sleeps.
EXEC = """
import os, sys, time
from fedloom.deployment.superexec_process import Warm
warm = Warm()
if warm.command is not None:
    own = f"{sys.argv[1]}/{warm.command[-1]}"
    with open(own + ".part", "w") as out:
        print(os.getpid(), os.getppid(), *warm.command, file=out)
    os.replace(own + ".part", own)
    if warm.command[-1] == "raise":
        raise SystemExit(3)
    time.sleep(float(warm.command[-1]))
else:
    for last in ("raise", "0", "900"):
        warm.start(["flwr-clientapp", "--token", last])
    time.sleep(900)
"""


def test_each_runs_in_a_fork_of_its_own_and_who_stands_by_ends_with_its_starter(
    tmp_path: Path,
) -> None:
    last = ("0", "900", "raise")
    started = subprocess.Popen([sys.executable, "-c", EXEC, str(tmp_path)], stderr=subprocess.DEVNULL)
    try:
        until(lambda: all((tmp_path / name).exists() for name in last))
        words = [(tmp_path / name).read_text().split() for name in last]
        assert [found[2:] for found in words] == [["flwr-clientapp", "--token", name] for name in last]
        assert len({found[0] for found in words}) == 3
        (waiting,) = {int(found[1]) for found in words}  # all have one parent, which is not the SuperExec
        assert waiting != started.pid
        until(lambda: not alive(int(words[0][0])) and not alive(int(words[2][0])))  # none is left for others to bury
        assert alive(waiting)
    finally:
        started.kill()  # as if by kill -9: the one that stands by sees its line end
        started.wait()
    until(lambda: not alive(waiting))
    os.kill(int(words[1][0]), 9)  # what it runs is ended by Flower itself, which is given --parent-pid
