"""What the processes of a run agree on: the main process finds it, and all others receive it."""

from collections.abc import Callable
from typing import TypeVar

from accelerate import PartialState
from accelerate.utils import broadcast_object_list


T = TypeVar("T")


def agree(state: PartialState, find: Callable[[], T]) -> T:
    """Call a function in the main process, and return its result, or raise its error, in all processes.

    The processes can exchange nothing else through their group afterwards.

    Args:
        state (`PartialState`): The processes of this run.
        find (`Callable`): Raises a `ValueError` or an `OSError` if the run is impossible.
    """
    outcome: list[T] = []
    problem: Exception | None = None
    if state.is_main_process:
        try:
            outcome = [find()]
        except (ValueError, OSError) as error:
            problem = error
    # An error must reach the others, too, which wait for the outcome.
    outcome, problem = broadcast_object_list([outcome, problem])
    state.destroy_process_group()
    if problem is not None:
        raise problem
    return outcome[0]
