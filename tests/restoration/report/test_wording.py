"""The words of a report, from summaries of tracks."""

from typing import Any

import numpy as np

from keep_hf.faces.alignment import TEMPLATE
from keep_hf.faces.tracking.tracks import PlacedFace
from keep_hf.options import RestorationOptions
from keep_hf.restoration.auto_strength import Judgement, Measurement
from keep_hf.restoration.report.wording import (
    DEPARTS,
    describe_person,
    describe_recognition,
    describe_rest,
    describe_result,
    describe_times,
    format_time,
    person_name,
)
from keep_hf.restoration.summary import TrackSummary


def summarize(number: int, weight: float, error: float | None = 0.5, score: float = 0.9) -> dict[str, Any]:
    """The entry of a track of ten frames."""
    summary = TrackSummary(number, 0, 0)
    for frame in range(10):
        face = PlacedFace(number, 0, np.array([0, 0, 60, 40]), TEMPLATE, score if frame else 0.0)
        measured = None if error is None else Measurement(0.3, 1.0, error, 0.4)
        summary.add(frame, face, 0.83, Judgement(weight, measured))
    return summary.to_dict()


def report(tracks: list[dict[str, Any]], **options: Any) -> dict[str, Any]:
    return {
        "tracks": tracks,
        "options": vars(RestorationOptions(**options)),
        "frame_rate": 25.0,
        "frames": 10,
        "size": [96, 64],
    }


def test_what_was_done_to_a_person():
    for weight, error, outcome, reason in (
        (0.97, 0.5, "Restored", "The restored face replaces the original."),
        (0.6, 0.5, "Partly restored", f"60 % of the restored face, 40 % of the original. {DEPARTS}"),
        (0.6, 0.08, "Partly restored", "60 % of the restored face, 40 % of the original. The face is sharp already."),
        (0.0, 0.02, "Left unchanged", "The face is sharp already."),
        (0.04, 0.5, "Left unchanged", DEPARTS),
    ):
        words = describe_person(track := summarize(0, weight, error), report([track]))
        assert (words.outcome, words.reason) == (outcome, reason)
        # The same decision as in the line of the command.
        is_restored = track["strength"]["reason"].startswith("restored")
        assert is_restored == (outcome != "Left unchanged")
    assert (words.name, words.track_id, words.times) == ("Person 1", 0, "0:00 to 0:00")
    assert words.notes == (
        "The face is about 60 pixels high.",
        "In 1 frame of 10 the face was not detected; its position was estimated there.",
        "Similarity of the face before and after, up to 1: 0.83.",
    )


def test_a_requested_strength():
    for strength, outcome, reason in (
        (1.0, "Restored", "The restored face replaces the original."),
        (0.3, "Partly restored", "30 % of the restored face, 70 % of the original. This strength was requested."),
        (0.0, "Left unchanged", "This strength was requested."),
    ):
        words = describe_person(track := summarize(4, strength, error=None), report([track]))
        assert (words.name, words.outcome, words.reason) == ("Person 5", outcome, reason)


def test_the_result_of_a_video():
    tracks = [summarize(0, 1.0), summarize(1, 0.5), summarize(2, 0.0)]
    size = "0.4 seconds, 10 frames of 96 x 64 pixels."
    assert describe_result(report(tracks)) == f"{size} 2 people were restored, and 1 left unchanged."
    assert describe_result(report(tracks[:1])) == f"{size} 1 person was restored."
    for options, missing in (
        ({}, "No faces"),
        ({"faces": "largest", "min_face_size": 40.5}, "No faces of 40.5 pixels or more"),
        ({"faces": [7]}, "None of the selected people"),
    ):
        assert describe_result(report([], **options)) == f"{size} {missing} were found, so nothing was restored."


def test_what_else_was_left_unchanged():
    assert len(describe_rest(report([]))) == 2
    assert describe_rest(report([], aligned=True)) == []
    assert describe_rest(report([], faces=[0, 2]))[0] == "Everyone else: only Person 1 and Person 3 were selected."
    assert describe_rest(report([], faces=[1]))[0] == "Everyone else: only Person 2 was selected."
    assert "only the largest" in describe_rest(report([], faces="largest"))[0]
    assert describe_rest(report([], min_face_size=40))[0].startswith("Faces smaller than 40 pixels")
    assert "enlarged 2 times" in describe_rest(report([], upscale=2))[-1]


def test_how_people_were_recognized():
    assert describe_recognition({"scenes": [0], "recognized_by": "appearance"}) == ""
    assert "listed twice" in describe_recognition({"scenes": [0, 9], "recognized_by": "appearance"})
    assert "by their faces" in describe_recognition({"scenes": [0, 9], "recognized_by": "identity"})
    assert describe_recognition({"scenes": [0, 9], "recognized_by": None}) == ""  # aligned crops


def test_times():
    assert [format_time(seconds) for seconds in (0, 64.6, 64.9999, 3725)] == ["0:00", "1:04", "1:05", "1:02:05"]
    track: dict[str, Any] = {"appearances": [[50, 99]]}
    assert describe_times(track, 25) == "0:02 to 0:04"
    # An absence of a second is not mentioned.
    track["appearances"] = [[0, 49], [74, 99], [250, 274]]
    assert describe_times(track, 25) == "0:00 to 0:04, 0:10 to 0:11"
    track["appearances"] = [[start, start + 9] for start in range(0, 1000, 100)]
    assert describe_times(track, 25) == "10 times between 0:00 and 0:36"


def test_people_are_numbered_from_one():
    assert person_name(0) == "Person 1"
