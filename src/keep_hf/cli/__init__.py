"""The command line program `keep-hf`: restore, faces, convert, degrade, evaluate, benchmark and demo.

Exit codes: 0 for success; 1 for a failure, with one line on stderr that names the reason; 2 for wrong usage.

The modules that parse arguments import nothing heavy, so `keep-hf --help` answers at once. The module of a command
imports what the command needs; it is imported when the command runs.
"""

import contextlib
import io
import signal
import sys
import threading
from collections.abc import Iterator
from importlib import import_module

from .output import one_line_warnings, print_message, resume_hint
from .parser import build_parser


__all__ = ["build_parser", "main"]


def main(arguments: list[str] | None = None) -> int:
    """Run one command.

    Args:
        arguments (`list[str]`, *optional*): The command and its arguments; those of the process by default.

    Returns:
        `int`: The exit code, 0 or 1. Wrong usage ends the process with exit code 2.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        # What the encoding of a terminal or pipe lacks is escaped, as on stderr: arrows in tables, names of files.
        sys.stdout.reconfigure(errors="backslashreplace")
    with stopped_by_signals():
        return _run(arguments)


def _run(arguments: list[str] | None) -> int:
    args = None
    try:
        with one_line_warnings():
            args = build_parser().parse_args(arguments)
            import_module(f".{args.command}", __package__).run(args)
    except KeyboardInterrupt:
        hint = resume_hint(args.output) if args is not None and args.command == "restore" else ""
        print_message(f"interrupted{hint}")
        return 1
    except (ValueError, OSError) as error:
        print_message(error)
        return 1
    except MemoryError:
        print_message("not enough memory: the frames or the model are too large for this machine")
        return 1
    except RuntimeError as error:
        from torch import OutOfMemoryError  # torch takes more than a second to import

        if not isinstance(error, OutOfMemoryError):
            raise
        print_message(f"not enough GPU memory; --dtype bf16 needs half: {error}")
        return 1
    return 0


@contextlib.contextmanager
def stopped_by_signals() -> Iterator[None]:
    """Let SIGTERM, which cluster schedulers and `docker stop` send, end a command as Ctrl-C does.

    Once a command ends, further signals are ignored: they would interrupt what keeps the finished work.
    """
    if threading.current_thread() is not threading.main_thread():  # only it may change what a signal does
        yield
        return
    # A program that was started with nohup, or by one that handles signals in C, is left as it is.
    numbers = [
        number for number in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(number) not in (signal.SIG_IGN, None)
    ]

    def ignore(*_: object) -> None:
        pass  # `SIG_IGN` would make Python complain about a second signal that has already arrived

    def stop(*_: object) -> None:
        for number in numbers:
            signal.signal(number, ignore)
        raise KeyboardInterrupt

    before = {number: signal.signal(number, stop) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
