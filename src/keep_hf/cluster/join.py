"""The joining of restored scenes into the video and the report of one process."""

from collections.abc import Mapping, Sequence
from typing import Any

from ..faces.tracking.known_people import KnownPeople
from ..restoration.summary import TrackSummary
from .people import renumber
from .plan import VideoPlan


def join_reports(plan: VideoPlan, reports: Sequence[Mapping[str, Any]], known: KnownPeople) -> dict[str, Any]:
    """Join the reports of all scenes of a video.

    Args:
        plan ([`VideoPlan`]): The plan of the video.
        reports (`Sequence[Mapping]`): From [`SceneStream`], in the order of the scenes.
        known ([`KnownPeople`]): New; numbers the people.

    Returns:
        `dict`: As [`FaceStream.report`]: seconds are sums over the workers, and the peak memory is the largest of one.
    """
    tracks: dict[int, TrackSummary] = {}
    seconds: dict[str, float] = {}
    peak: dict[str, int] = {}
    for scene, report in zip(plan.scenes, reports, strict=True):
        numbers = renumber(report["people"], known)
        for state in report["tracks"]:
            track = TrackSummary.from_state_dict(state)
            number = numbers.get(track.track_id, track.track_id)  # aligned faces are not numbered
            first = track.first_frame + scene.start
            tracks.setdefault(number, TrackSummary(number, first, first)).merge(track, scene.start)
        for stage, value in report["seconds"].items():
            seconds[stage] = seconds.get(stage, 0.0) + value
        for place, value in report["peak_memory_bytes"].items():
            peak[place] = max(peak.get(place, 0), value)
    return {
        "frames": sum(report["frames"] for report in reports),
        "scenes": [scene.start for scene in plan.scenes],
        "tracks": [track.to_dict() for _, track in sorted(tracks.items())],
        "recognized_by": reports[0]["recognized_by"],
        "seconds": {stage: round(value, 3) for stage, value in seconds.items()},
        "peak_memory_bytes": peak,
    }
