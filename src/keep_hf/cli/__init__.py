"""The command line program `keep-hf`: restore, faces, convert, degrade, evaluate, benchmark and demo.

Exit codes: 0 for success; 1 for a failure, with one line on stderr that names the reason; 2 for wrong usage.

The modules that parse arguments import nothing heavy, so `keep-hf --help` answers at once. The module of a command
imports what the command needs; it is imported when the command runs.
"""

import contextlib
import signal
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
    args = None
    try:
        with one_line_warnings(), interrupted_by_sigterm():
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
def interrupted_by_sigterm() -> Iterator[None]:
    """Let SIGTERM, which cluster schedulers and `docker stop` send, end a command as Ctrl-C does."""
    if threading.current_thread() is not threading.main_thread():  # only it may change what a signal does
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before or signal.SIG_DFL)
