"""What the main process of a run finds reaches all others, and so does its error."""

import pytest

from processes import launch


pytestmark = pytest.mark.slow

SCRIPT = """
import sys

from accelerate import PartialState
from keep_hf.cli.processes.agreement import agree

state = PartialState(cpu=True)

def find():
    assert state.is_main_process
    raise OSError("no connection")

try:
    agree(state, find)
except OSError as error:
    sys.stdout.write(f"{error}\\n")  # at once, so that lines of both processes are not mixed
"""


def test_both_processes_get_the_error(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    launched = launch(2, script)
    assert launched.returncode == 0, launched.stderr
    assert launched.stdout.splitlines() == ["no connection"] * 2
