"""The report of a restoration in plain words.

People are numbered from 1 here: Person 1 has the number 0 in the JSON report and on the command line.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..auto_strength import is_nearly_sharp


LONGEST_GAP = 1.0  # seconds; a shorter absence is not mentioned
MAX_APPEARANCES = 6
# Percent of the restored face from which a person counts as changed, and as restored in full.
CHANGED, FULL = 5, 95
DEPARTS = "The full result would have changed the face by more than it lacks in sharpness."


@dataclass(frozen=True)
class PersonWords:
    """What is said of a person.

    Attributes:
        track_id (`int`): Number in the JSON report.
        name (`str`): Such as "Person 1".
        times (`str`): When the person appears.
        outcome (`str`): What was done: `"Restored"`, `"Partly restored"` or `"Left unchanged"`.
        reason (`str`): Why, or how.
        notes (`tuple[str, ...]`): Further sentences.
    """

    track_id: int
    name: str
    times: str
    outcome: str
    reason: str
    notes: tuple[str, ...]


def person_name(track_id: int) -> str:
    """The name of a person by the number of their track, which starts at 0."""
    return f"Person {track_id + 1}"


def format_time(seconds: float) -> str:
    """A time as players show it, such as "1:05": the second that has begun."""
    minutes, rest = divmod(int(round(seconds, 3)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def count(number: int, singular: str, plural: str) -> str:
    """A number with its noun."""
    return f"{number} {singular if number == 1 else plural}"


def describe_person(track: Mapping[str, Any], report: Mapping[str, Any]) -> PersonWords:
    """Describe what was done to a person.

    Args:
        track (`Mapping[str, Any]`): The entry of the person in `report["tracks"]`.
        report (`Mapping[str, Any]`): The report of the video, from [`KeepPipeline.restore_video`].
    """
    percent = restored_percent(track)
    if percent >= FULL:
        outcome, reason = "Restored", "The restored face replaces the original."
    elif percent >= CHANGED:
        outcome = "Partly restored"
        reason = f"{percent} % of the restored face, {100 - percent} % of the original. {_explain(track)}"
    else:
        outcome, reason = "Left unchanged", _explain(track)
    notes = [f"The face is about {count(round(track['face_size']), 'pixel', 'pixels')} high."]
    if track["filled_frames"]:
        filled = count(track["filled_frames"], "frame", "frames")
        notes.append(f"In {filled} of {track['frames']} the face was not detected; its position was estimated there.")
    if "identity" in track:
        notes.append(f"Similarity of the face before and after, up to 1: {track['identity']:.2f}.")
    name, times = person_name(track["id"]), describe_times(track, report["frame_rate"])
    return PersonWords(track["id"], name, times, outcome, reason.strip(), tuple(notes))


def restored_percent(track: Mapping[str, Any]) -> int:
    """How much of the restored face was used, in percent, as the mean over all frames of a person."""
    return round(100 * track["strength"]["weight"])


def _explain(track: Mapping[str, Any]) -> str:
    """Why less than all of a restored face was used."""
    if "error" not in track["strength"]:
        return "This strength was requested."
    return "The face is sharp already." if is_nearly_sharp(track["strength"]["error"]) else DEPARTS


def describe_times(track: Mapping[str, Any], frame_rate: float) -> str:
    """When a person appears, such as "0:00 to 0:04"."""
    spans: list[list[int]] = []
    for first, last in track["appearances"]:
        if spans and first - spans[-1][1] <= LONGEST_GAP * frame_rate:
            spans[-1][1] = last
        else:
            spans.append([first, last])
    texts = [f"{format_time(first / frame_rate)} to {format_time((last + 1) / frame_rate)}" for first, last in spans]
    if len(texts) <= MAX_APPEARANCES:
        return ", ".join(texts)
    start, end = format_time(spans[0][0] / frame_rate), format_time((spans[-1][1] + 1) / frame_rate)
    return f"{len(texts)} times between {start} and {end}"


def describe_result(report: Mapping[str, Any]) -> str:
    """The result for a video in two sentences."""
    frames, rate = report["frames"], report["frame_rate"]
    width, height = report["size"]
    size = f"{frames / rate:.1f} seconds, {count(frames, 'frame', 'frames')} of {width} x {height} pixels."
    percents = [restored_percent(track) for track in report["tracks"]]
    if not percents:
        return f"{size} {missing_people(report['options'])} were found, so nothing was restored."
    num_changed = sum(percent >= CHANGED for percent in percents)
    people = f"{count(num_changed, 'person was', 'people were')} restored"
    if left := len(percents) - num_changed:
        people += f", and {left} left unchanged"
    return f"{size} {people}."


def missing_people(options: Mapping[str, Any]) -> str:
    """What was looked for in a video without people: "No faces", or "None of the selected people"."""
    if not isinstance(options["faces"], str):
        return "None of the selected people"
    least = options["min_face_size"]
    return f"No faces of {least:g} pixels or more" if least else "No faces"


def describe_recognition(report: Mapping[str, Any]) -> str:
    """By what people were recognized after cuts; nothing for a video without a cut."""
    if len(report["scenes"]) < 2 or report["recognized_by"] is None:
        return ""
    if report["recognized_by"] == "identity":
        return "After a cut, people were recognized by their faces."
    return "After a cut, people were recognized by their appearance alone, so a person may be listed twice."


def describe_rest(report: Mapping[str, Any]) -> list[str]:
    """What was left unchanged apart from the people of the report, and why."""
    options = report["options"]
    lines = []
    if options["faces"] == "largest":
        lines.append("All faces but one in each frame: only the largest face was requested.")
    elif options["faces"] != "all":
        *others, last = (person_name(number) for number in options["faces"])
        names = f"{', '.join(others)} and {last} were" if others else f"{last} was"
        lines.append(f"Everyone else: only {names} selected.")
    if options["min_face_size"]:
        lines.append(f"Faces smaller than {options['min_face_size']:g} pixels: a smallest size was requested.")
    if not options["aligned"]:
        lines.append("Faces that were not found: faces that are tiny, covered or turned away are not detected.")
        lines.append(_describe_background(options))
    return lines


def _describe_background(options: Mapping[str, Any]) -> str:
    if options["background"]:
        return "The frame around the faces was enlarged by another network, not restored."
    if options["upscale"] > 1:
        return f"The frame around the faces: it was enlarged {options['upscale']} times, but not restored."
    return "The frame around the faces: only faces are restored."
