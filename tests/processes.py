"""Launch several processes of one program with `torchrun`, with a time limit.

A process that waits for another one may wait forever. A test that never ends shows nothing and blocks all tests after
it, so it fails here instead, with the stack of every process.
"""

import os
import signal
import subprocess
import sys
import tempfile

import psutil

from paths import REPOSITORY


def run_module(module: str, *arguments: object, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a module of the repository, such as `benchmarks.vfhq_test`, in a process of its own.

    Args:
        module (`str`): The module that `python -m` runs.
        arguments: The command line arguments of the module.
        variables: Environment variables to set.
    """
    command = [sys.executable, "-m", module, *map(str, arguments)]
    environment = os.environ | variables
    return subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, env=environment, check=False)


def launch(processes: int, *command: object, timeout: float = 300) -> subprocess.CompletedProcess[str]:
    """Run a script or a module (`"-m", name`) in several processes, in the root of the repository.

    Args:
        processes (`int`): Number of processes.
        command: The script or module, and its arguments.
        timeout (`float`, *optional*, defaults to 300): In seconds.

    Returns:
        `subprocess.CompletedProcess[str]`: The exit code of the launcher, and the output of all processes.

    Raises:
        TimeoutError: If the processes have not ended by then. The message has their output and their stacks.
    """
    # Without a network the name of the machine may not resolve.
    launcher = ("torch.distributed.run", "--standalone", "--local-addr", "127.0.0.1", "--nproc-per-node", processes)
    words = list(map(str, (sys.executable, "-m", *launcher, *command)))
    # The processes can import what the test can import: the packages of the repository and the helpers in tests/.
    search_path = {"PYTHONPATH": os.pathsep.join(sys.path)}
    variables = os.environ | search_path | {"PYTHONFAULTHANDLER": "1"}
    # Files, because a pipe ends only when the last process that inherited it has ended.
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
    """End a process and all its descendants. Those with `PYTHONFAULTHANDLER` set print their stacks."""
    family = [process := psutil.Process(pid), *process.children(recursive=True)]
    for each in reversed(family):
        each.send_signal(signal.SIGABRT)
    _, alive = psutil.wait_procs(family, timeout=10)
    for each in alive:
        each.kill()
