"""Fill the frames in which the detector lost a face: afterwards (`fill_gap`), or while it is lost (`hold_face`)."""

from collections.abc import Mapping

import numpy as np

from ..alignment import can_be_aligned
from .appearance import compute_appearance
from .person import Detection, Person, Sighting


STILL_THERE = 0.75  # least similarity of an interpolated face to the face before or after the gap
MAX_OVERLAP = 0.3  # with another person, as a part of the smaller box


def fill_gap(
    person: Person,
    now: int,
    detection: Detection,
    people: list[Person],
    images: Mapping[int, np.ndarray],
    max_gap: int,
) -> None:
    """Interpolate the frames between the last detection of a person and a new one on a straight line.

    Nothing is filled in if one of the images does not show the face in the interpolated place, or another person was
    detected there: the person is away in these frames.

    Args:
        person ([`Person`]): Who was detected again; `seen` gets the interpolated faces.
        now (`int`): Index of the frame of the new detection.
        detection ([`Detection`]): The new detection.
        people (`list[Person]`): Everyone in the scene.
        images (`Mapping[int, np.ndarray]`): RGB frames, uint8, by index; those of the gap are read.
        max_gap (`int`): Largest number of frames that are filled in.
    """
    gap = range(person.last + 1, now)
    if not 0 < len(gap) <= max_gap or person.last not in person.seen:
        return
    before, after = person.seen[person.last], detection.face
    others = [other for other in people if other is not person]
    filled = {}
    for frame in gap:
        part = (frame - person.last) / (now - person.last)
        landmarks = (1 - part) * before.landmarks + part * after.landmarks
        box = ((1 - part) * before.box + part * after.box).astype(np.float32)
        if not can_be_aligned(landmarks):  # the face was found upside down after the gap
            return
        appearance = compute_appearance(images[frame], landmarks)
        similarity = max(appearance @ person.latest_appearance, appearance @ detection.appearance)
        if similarity <= STILL_THERE or _is_occupied(frame, box, others):
            return
        filled[frame] = Sighting(box, landmarks.astype(np.float32), 0.0)
    person.seen |= filled


def hold_face(person: Person, now: int, people: list[Person], images: Mapping[int, np.ndarray], max_gap: int) -> None:
    """Keep a person in place in a frame in which they were not detected, without knowing whether they return.

    The face is where it was in the frame before, or moved on as before it was lost, whichever the image confirms
    better. If it confirms neither, or another person was detected there, the person is away until they are detected
    again.

    Args:
        person ([`Person`]): Who was not detected; `seen` gets the face.
        now (`int`): Index of the frame.
        people (`list[Person]`): Everyone in the scene, with the detections of the frame.
        images (`Mapping[int, np.ndarray]`): RGB frames, uint8, by index; that of the frame is read.
        max_gap (`int`): Largest number of successive frames that are filled in.
    """
    if now - person.last > max_gap or now - 1 not in person.seen:
        return
    before = person.seen[now - 1]

    def similarity(shift: np.ndarray) -> float:
        return float(compute_appearance(images[now], before.landmarks + shift) @ person.latest_appearance)

    shift = max((np.zeros(2, np.float32), person.velocity), key=similarity)
    box = (before.box + np.tile(shift, 2)).astype(np.float32)
    if similarity(shift) > STILL_THERE and not _is_occupied(now, box, [one for one in people if one is not person]):
        person.seen[now] = Sighting(box, (before.landmarks + shift).astype(np.float32), 0.0)


def _is_occupied(frame: int, box: np.ndarray, others: list[Person]) -> bool:
    """Return whether another person was detected in that place."""
    faces = [other.seen[frame] for other in others if frame in other.seen]
    return any(face.is_detected and _overlap(face.box, box) > MAX_OVERLAP for face in faces)


def _overlap(a: np.ndarray, b: np.ndarray) -> float:
    """Return the shared part of the smaller of two boxes, from 0 to 1."""
    sides = np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2])
    smaller = min(np.prod(a[2:] - a[:2]), np.prod(b[2:] - b[:2]))
    return float(np.prod(np.maximum(sides, 0)) / max(smaller, 1e-6))
