"""The version number that every saved state carries, and the error for states that cannot be used."""

from collections.abc import Mapping
from typing import Any


class SavedStateError(ValueError):
    """Saved work cannot be continued: it is damaged, or another version or job has saved it. It can be done again."""


def check_state_version(state: Mapping[str, Any], version: int, owner: str) -> None:
    """Reject a state that another version of the package has saved.

    Args:
        state (`Mapping[str, Any]`): A state with the entry `"version"`.
        version (`int`): The version that can be read.
        owner (`str`): Name of the class that the state belongs to, for the message.

    Raises:
        SavedStateError: If the versions differ.
    """
    if state.get("version") != version:
        raise SavedStateError(
            f"The saved state of {owner} has version {state.get('version')}, but this version of keep_hf reads "
            f"version {version}: start the job again without resuming."
        )
