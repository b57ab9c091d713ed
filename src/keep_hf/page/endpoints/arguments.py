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
    start: Any,
    end: Any,
    people: Any,
    fidelity: Any,
    strength: Any,
    upscale: Any,
    quality: Any,
    person_strength: Any,
) -> RestorationRequest:
    """The request of a client, whose values have the right types. Their ranges are checked with the options.

    Raises:
        ValueError: If one has another type; the message names the parameter and the value.
    """
    if not (people is None or (isinstance(people, list) and all(_is_whole(number) for number in people))):
        raise ValueError(f"people must be a list of numbers from /faces, such as [1, 2], or null; got {people!r}.")
    strength = _strength("strength", strength)
    if not (person_strength is None or (isinstance(person_strength, dict) and all(map(_is_key, person_strength)))):
        raise ValueError(
            'person_strength must map numbers from /faces to strengths, such as {"1": 0.5}, or be null; '
            f"got {person_strength!r}."
        )
    strengths = {
        int(number): _strength(f"person_strength of {number}", value)
        for number, value in (person_strength or {}).items()
    }
    if not _is_whole(upscale):
        raise ValueError(f"upscale must be 1, 2, 3 or 4, got {upscale!r}.")
    if not isinstance(quality, str):
        raise ValueError(f"quality must be one of {', '.join(QUALITIES)}, got {quality!r}.")
    fidelity = _number("fidelity", fidelity, "a number from 0 to 1")
    return RestorationRequest(
        *check_part(start, end),
        tuple(map(int, people or ())),
        fidelity,
        strength,
        int(upscale),
        quality,
        strengths or None,
    )


def _number(name: str, value: Any, kind: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or math.isnan(value):
        raise ValueError(f"{name} must be {kind}, got {value!r}.")
    return float(value)


def _strength(name: str, value: Any) -> float | str:
    return AUTO if value == AUTO else _number(name, value, f"a number from 0 to 1, or {AUTO!r}")


def _is_key(number: Any) -> bool:
    """Whether a key of a JSON object is a number."""
    return isinstance(number, str) and number.isdecimal()


def _is_whole(value: Any) -> bool:
    return not isinstance(value, bool) and isinstance(value, int | float) and value % 1 == 0
