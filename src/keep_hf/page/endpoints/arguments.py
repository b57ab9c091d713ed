"""Checks of the arguments of API calls: gradio passes on what a client has sent, of whatever type it is."""

import math
from typing import Any

from ...options import AUTO
from ..requests import QUALITIES, RestorationRequest


def check_part(start: Any, end: Any) -> tuple[float, float]:
    """The part of a video, in seconds; it ends with the video if `end` is `None`.

    Raises:
        ValueError: If one of them is not a number.
    """
    kind = "a number of seconds"
    return _number("start", start, kind), math.inf if end is None else _number("end", end, kind)


def check_request(
    start: Any, end: Any, people: Any, fidelity: Any, strength: Any, upscale: Any, quality: Any
) -> RestorationRequest:
    """The request of a client, whose values have the right types. Their ranges are checked with the options.

    Raises:
        ValueError: If one has another type; the message names the parameter and the value.
    """
    if not (people is None or (isinstance(people, list) and all(_is_whole(number) for number in people))):
        raise ValueError(f"people must be a list of numbers from /faces, such as [1, 2], or null; got {people!r}.")
    if strength != AUTO:
        strength = _number("strength", strength, f"a number from 0 to 1, or {AUTO!r}")
    if not _is_whole(upscale):
        raise ValueError(f"upscale must be 1, 2, 3 or 4, got {upscale!r}.")
    if not isinstance(quality, str):
        raise ValueError(f"quality must be one of {', '.join(QUALITIES)}, got {quality!r}.")
    fidelity = _number("fidelity", fidelity, "a number from 0 to 1")
    return RestorationRequest(
        *check_part(start, end), tuple(map(int, people or ())), fidelity, strength, int(upscale), quality
    )


def _number(name: str, value: Any, kind: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or math.isnan(value):
        raise ValueError(f"{name} must be {kind}, got {value!r}.")
    return float(value)


def _is_whole(value: Any) -> bool:
    return not isinstance(value, bool) and isinstance(value, int | float) and value % 1 == 0
