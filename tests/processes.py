"""Several processes of one program, as `torchrun` launches them, that end in any case.

What waits for another process may wait for ever. A test that does not end tells nothing and costs all that come after
it; so here it fails, with the place where every process stood.
"""

import os
import signal
import subprocess
import sys
import tempfile

import psutil

from paths import REPOSITORY


# As each of several processes has one thread, and sums are rounded by the number of threads.
ONE_THREAD = {"OMP_NUM_THREADS": "1"}


def run_module(module: str, *arguments, **variables: str) -> subprocess.CompletedProcess:
    """Run a module of the repository, such as `benchmarks.vfhq_test`, in a process with one thread.

    Args:
        module (`str`): What `python -m` runs.
        arguments: What follows on the command line.
        variables: Added to the environment.
    """
    command = [sys.executable, "-m", module, *map(str, arguments)]
    environment = os.environ | ONE_THREAD | variables
    return subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, env=environment, check=False)


def launch(processes: int, *command, timeout: float = 300) -> subprocess.CompletedProcess:
    """Run a script (or `-m`, module) with its arguments from the repository, in several processes of one thread each.

    Args:
        processes (`int`): How many.
        command: What follows on the command line.
        timeout (`float`, *optional*, defaults to 300): Seconds.

    Raises:
        TimeoutError: If they have not ended by then; with what they printed and the stacks of all of them.
    """
    # On a machine without network its name may lead nowhere.
    launcher = ("torch.distributed.run", "--standalone", "--local-addr", "127.0.0.1", "--nproc-per-node", processes)
    words = list(map(str, (sys.executable, "-m", *launcher, *command)))
    variables = os.environ | ONE_THREAD | {"PYTHONFAULTHANDLER": "1"}
    # Into files: of a pipe, the end comes only when the last process that inherited it is gone.
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:

        def printed() -> tuple[str, str]:
            for file in (out, err):
                file.seek(0)
            return out.read(), err.read()

        with subprocess.Popen(words, cwd=REPOSITORY, stdout=out, stderr=err, text=True, env=variables) as launched:
            try:
                launched.wait(timeout)
            except subprocess.TimeoutExpired:
                stop(launched.pid)
                raise TimeoutError(f"{words} did not end in {timeout:g} s.\n" + "\n".join(printed())) from None
        return subprocess.CompletedProcess(words, launched.returncode, *printed())


def stop(pid: int) -> None:
    """End a process and all that it started; those with `PYTHONFAULTHANDLER` print their stacks."""
    family = [process := psutil.Process(pid), *process.children(recursive=True)]
    for each in reversed(family):
        each.send_signal(signal.SIGABRT)
    _, alive = psutil.wait_procs(family, timeout=10)
    for each in alive:
        each.kill()
