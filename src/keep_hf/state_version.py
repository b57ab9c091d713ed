"""The version number that every saved state carries."""

from collections.abc import Mapping
from typing import Any


def check_state_version(state: Mapping[str, Any], version: int, owner: str) -> None:
    """Reject a state that another version of the package has saved.

    Args:
        state (`Mapping[str, Any]`): A state with the entry `"version"`.
        version (`int`): The version that can be read.
        owner (`str`): Name of the class that the state belongs to, for the message.

    Raises:
        ValueError: If the versions differ.
    """
    if state.get("version") != version:
        raise ValueError(
            f"The saved state of {owner} has version {state.get('version')}, but this version of keep_hf reads "
            f"version {version}: start the job again without resuming."
        )
