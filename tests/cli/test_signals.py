"""Signals that end a command."""

import subprocess
import sys

import pytest


TWO_SIGNALS = """
import os, signal, time
from keep_hf.cli import stopped_by_signals

both = {signal.SIGINT, signal.SIGTERM}
try:
    with stopped_by_signals():
        signal.pthread_sigmask(signal.SIG_BLOCK, both)  # so that both arrive at once
        for number in both:
            os.kill(os.getpid(), number)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, both)
        time.sleep(60)
except KeyboardInterrupt:
    print("interrupted")
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no signal masks")
def test_two_signals_at_once_interrupt_once_and_print_nothing():
    done = subprocess.run([sys.executable, "-c", TWO_SIGNALS], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("interrupted\n", "")
