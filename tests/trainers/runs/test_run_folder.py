"""The folder of a run has one run at a time."""

import os
import signal
import subprocess
import sys

import pytest

from tests.trainers.runs.small_runs import run_in
from trainers.runs import run_folder


def test_a_second_run_in_the_folder_is_refused_until_the_first_has_died(tmp_path):
    code = (
        "import fcntl, sys; file = open(sys.argv[1], 'a+'); fcntl.flock(file, fcntl.LOCK_EX); "
        "file.write('process 7 on earth'); file.flush(); print(); sys.stdin.read()"
    )
    run = run_in(tmp_path)
    command = [sys.executable, "-c", code, str(tmp_path / run_folder.LOCK)]
    first = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    first.stdout.readline()
    with (
        pytest.raises(ValueError, match="in use by another run, process 7 on earth. Wait for"),
        run_folder.hold(run),
    ):
        pass
    first.send_signal(signal.SIGKILL)
    first.wait()
    with run_folder.hold(run):
        assert f"process {os.getpid()} on" in (tmp_path / run_folder.LOCK).read_text()
    first.stdin.close()
    first.stdout.close()
