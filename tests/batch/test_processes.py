"""Whether a process has ended."""

import os
import subprocess
import sys
from dataclasses import replace

import pytest

from keep_hf.batch.processes import has_ended, this_process, this_system


pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux has /proc")


def test_this_process_lives():
    assert this_process().pid == os.getpid()
    assert has_ended(this_process()) is False


def test_a_number_that_is_used_again_is_another_process():
    process = this_process()
    assert has_ended(replace(process, started=process.started - 1)) is True


def test_a_child_has_ended_when_it_is_a_zombie_and_after():
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    stat = f"/proc/{child.pid}/stat"
    with open(stat) as file:
        started = int(file.read().rpartition(")")[2].split()[19])
    process = replace(this_process(), pid=child.pid, started=started)
    assert has_ended(process) is False
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # it stays a zombie
    assert has_ended(process) is True
    child.communicate()
    assert has_ended(process) is True


def test_other_machines_are_not_known():
    assert this_system()
    assert has_ended(replace(this_process(), system="another boot")) is None
    assert has_ended(replace(this_process(), system="")) is None
