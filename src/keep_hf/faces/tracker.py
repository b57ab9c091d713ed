"""From faces of single frames to people followed through a scene, while it streams by.

A face continues the track whose motion and look it fits best.  Where a face is lost for a moment, its place is filled
in if the pictures show that it is still there; otherwise the person is away until found again, and keeps their number
if they look the same.  A frame is decided when the look-ahead has been seen: by then every gap around it is filled or
is not going to be, and landmarks can be smoothed with the frames after it as well as with those before.

The published script takes the largest face of every frame for the same person and smooths across scene cuts; here
everybody is followed, and nobody across a cut.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from itertools import takewhile
from typing import Any

import numpy as np

from ..state_version import check_state_version
from .appearance import compute_appearance, normalize
from .detector import Faces


SMOOTHING_SECONDS = 0.2  # the published 5 frames at 25 frames per second
GAP_SECONDS = 0.5  # for which a face may be lost and still be filled in
FADE_SECONDS = 0.2  # in which a restored face appears and vanishes inside a scene
MAX_FRAME_RATE = 60  # more frames per second do not make the look-ahead longer: they have to be held in memory
MIN_SIGHTINGS = 3  # what is seen less often is an error of the detector
# Largest distance between the place foreseen and the place found, in sides of the face; it grows while a face is lost.
GATE, GATE_GROWTH = 0.5, 0.05
# Least similarities.  On twelve talking heads, degraded, one person two seconds apart had 0.90
# or more in 95 % of the pairs, different people less than 0.81 in 99 %.
STILL_THERE, SAME_PERSON, POSSIBLE = 0.75, 0.85, 0.5
MAX_PEOPLE = 64  # remembered in a scene without end; those who were not seen for longest are forgotten
MIN_LANDMARK_SPREAD = 4.0  # pixels; smaller faces cannot be aligned
# A face that counts, or is the largest one, stays so until it is clearly smaller: sizes tremble.
SIZE_MARGIN = 0.8
STATE_VERSION = 1


@dataclass
class FaceTrack:
    """One person in the frames of a clip in which they are restored.

    Args:
        track_id (`int`):
            Number of the person, in the order of appearance.
        frames (`np.ndarray` of shape `(n,)`, int64):
            Indices of the frames, growing; a step of more than one is an absence.
        boxes (`np.ndarray` of shape `(n, 4)`, float32):
            Left, top, right and bottom in pixels of the frame.
        landmarks (`np.ndarray` of shape `(n, 5, 2)`, float64):
            Five points in pixels of the frame, see [`Faces`]; smoothed along time.
        scores (`np.ndarray` of shape `(n,)`, float32):
            Confidence from 0 to 1; exactly 0 where the face was not seen and its place is filled in.
    """

    track_id: int
    frames: np.ndarray
    boxes: np.ndarray
    landmarks: np.ndarray
    scores: np.ndarray

    def __len__(self) -> int:
        return len(self.frames)


@dataclass
class PlacedFace:
    """Where a person is in one frame, decided.

    Attributes:
        track_id (`int`): Number of the person.
        segment (`int`): Number of the run of consecutive frames; a person who was away begins a new one.
        box (`np.ndarray` of shape `(4,)`): Left, top, right and bottom in pixels of the frame.
        landmarks (`np.ndarray` of shape `(5, 2)`): Smoothed, in pixels of the frame.
        score (`float`): Confidence; 0 where the place is filled in.
        weight (`float`): Of the restored face, in (0, 1]: less than 1 while it fades in or out.
    """

    track_id: int
    segment: int
    box: np.ndarray
    landmarks: np.ndarray
    score: float
    weight: float = 1.0

    def state_dict(self) -> dict[str, Any]:
        """Return the fields as numbers and arrays."""
        return dict(vars(self))

    @classmethod
    def from_state_dict(cls, state: Mapping[str, Any]) -> "PlacedFace":
        """Rebuild a placed face from its `state_dict`."""
        return cls(**state)


@dataclass
class Sighting:
    """A face of a person in one frame.

    Attributes:
        box (`np.ndarray` of shape `(4,)`, float32): Left, top, right and bottom in pixels of the frame.
        landmarks (`np.ndarray` of shape `(5, 2)`, float32): In pixels of the frame.
        score (`float`): Confidence of the detector; 0 where the face was not detected but interpolated.
    """

    box: np.ndarray
    landmarks: np.ndarray
    score: float


@dataclass(eq=False)  # compared by identity: fields are arrays
class Person:
    """A person in the scene: where they were seen recently, and how they look.

    `seen` maps frames to sightings; frames that no later decision needs are removed.
    """

    usual_appearance: np.ndarray
    latest_appearance: np.ndarray
    seen: dict[int, Sighting] = field(default_factory=dict)
    last: int = -1
    velocity: np.ndarray = field(default_factory=lambda: np.zeros(2, np.float32))
    track_id: int = -1  # given when they are first believed to be there
    believed: bool = False
    large_enough: bool = False

    def similarity(self, appearance: np.ndarray) -> float:
        return float(max(self.usual_appearance @ appearance, self.latest_appearance @ appearance))

    def state_dict(self) -> dict[str, Any]:
        """Return the fields as numbers, arrays and dictionaries."""
        return vars(self) | {"seen": {frame: dict(vars(sighting)) for frame, sighting in self.seen.items()}}

    @classmethod
    def from_state_dict(cls, state: Mapping[str, Any]) -> "Person":
        """Rebuild a person from their `state_dict`."""
        seen = {frame: Sighting(**sighting) for frame, sighting in state["seen"].items()}
        return cls(**{**state, "seen": seen})


def link_tracks(frames: list[list[PlacedFace]]) -> list[FaceTrack]:
    """Turn the decided faces of the frames of a clip around: one track for every person."""
    people: dict[int, list[tuple[int, PlacedFace]]] = {}
    for index, faces in enumerate(frames):
        for face in faces:
            people.setdefault(face.track_id, []).append((index, face))
    return [
        FaceTrack(
            track_id,
            np.array([index for index, _ in places]),
            np.array([face.box for _, face in places], np.float32),
            np.array([face.landmarks for _, face in places]),
            np.array([face.score for _, face in places], np.float32),
        )
        for track_id, places in sorted(people.items())
    ]


class FaceTracker:
    """Follows the people of one scene.

    Args:
        frame_rate (`float`):
            Frames per second: gaps, smoothing and fades are measured in seconds.
        faces (`"all"`, `"largest"` or a collection of `int`, defaults to `"all"`):
            Everybody, one person at a time, or the people with these numbers.
        min_face_size (`float`, defaults to 0):
            Longer side of the box in pixels from which a face counts.
        first_frame (`int`, defaults to 0):
            Index of the first frame of the scene.
        next_id, next_segment (`int`, defaults to 0):
            Numbers that the scenes before have not used.
    """

    def __init__(
        self,
        frame_rate: float,
        faces: str | Collection[int] = "all",
        min_face_size: float = 0.0,
        first_frame: int = 0,
        next_id: int = 0,
        next_segment: int = 0,
    ) -> None:
        frame_rate = min(frame_rate, MAX_FRAME_RATE)
        self.faces, self.min_face_size = faces, min_face_size
        self.max_gap = max(1, round(GAP_SECONDS * frame_rate))
        self.sigma = SMOOTHING_SECONDS * frame_rate
        self.radius = smoothing_radius(self.sigma)
        self.fade = max(1, round(FADE_SECONDS * frame_rate))
        # A decision needs every sighting that smoothing reaches, and a gap there is filled only when it ends.
        self.decide_after = self.radius + self.max_gap + MIN_SIGHTINGS
        self.next_id, self.next_segment = next_id, next_segment
        self.people: list[Person] = []
        # Of each, the next frame: to be seen, decided and placed
        self.first_frame = self.num_seen = self.num_decided = self.num_placed = first_frame
        self.chosen = -1  # who is the largest
        self.segments: dict[int, int] = {}  # of those who were there in the last decided frame
        self.decided: dict[int, list[PlacedFace]] = {}  # frames around the next one to be placed

    @property
    def look_ahead(self) -> int:
        """Frames that are seen before a frame is decided."""
        return self.decide_after + self.fade

    def step(self, faces: Faces, images: Mapping[int, np.ndarray]) -> list[list[PlacedFace]]:
        """Take the faces of the next frame.

        Args:
            faces (`Faces`): As detected.
            images (`Mapping[int, np.ndarray]`): RGB frames by their index: the newest one, and those of the
                look-ahead before it.

        Returns:
            `list[list[PlacedFace]]`: the decided faces of the next frames in order: none while the look-ahead fills,
            then one frame a step.
        """
        now = self.num_seen
        self.num_seen += 1
        self._link(now, faces, images)
        if now >= self.first_frame + self.decide_after:
            self._decide(now - self.decide_after, ended=False)
        return self._place(ended=False)

    def state_dict(self) -> dict[str, Any]:
        """Return the state between two steps as numbers, arrays, lists and dictionaries."""
        return {
            "version": STATE_VERSION,
            "first_frame": self.first_frame,
            "num_seen": self.num_seen,
            "num_decided": self.num_decided,
            "num_placed": self.num_placed,
            "next_id": self.next_id,
            "next_segment": self.next_segment,
            "chosen": self.chosen,
            "segments": dict(self.segments),
            "people": [person.state_dict() for person in self.people],
            "decided": {frame: [face.state_dict() for face in faces] for frame, faces in self.decided.items()},
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from the state of a tracker with the same `frame_rate`, `faces` and `min_face_size`.

        Raises:
            ValueError: If the state has another version.
        """
        check_state_version(state, STATE_VERSION, "FaceTracker")
        self.first_frame, self.num_seen = state["first_frame"], state["num_seen"]
        self.num_decided, self.num_placed = state["num_decided"], state["num_placed"]
        self.next_id, self.next_segment = state["next_id"], state["next_segment"]
        self.chosen, self.segments = state["chosen"], dict(state["segments"])
        self.people = [Person.from_state_dict(person) for person in state["people"]]
        self.decided = {
            frame: [PlacedFace.from_state_dict(face) for face in faces] for frame, faces in state["decided"].items()
        }

    def flush(self) -> list[list[PlacedFace]]:
        """End the scene: the decided faces of the frames that are left."""
        while self.num_decided < self.num_seen:
            self._decide(self.num_decided, ended=True)
        return self._place(ended=True)

    # Linking

    def _link(self, now: int, faces: Faces, images: Mapping[int, np.ndarray]) -> None:
        usable = [i for i in range(len(faces)) if np.ptp(faces.landmarks[i], axis=0).max() >= MIN_LANDMARK_SPREAD]
        appearances = {i: compute_appearance(images[now], faces.landmarks[i]) for i in usable}
        free_people, free_faces = set(range(len(self.people))), set(usable)

        # By motion and look first; whoever is left, if lost for longer, by the look alone.  Closest pairs first.
        pairs = []
        for i, person in enumerate(self.people):
            for j in usable:
                similarity, lost = person.similarity(appearances[j]), now - person.last
                if lost <= self.max_gap + 1 and similarity > POSSIBLE:
                    away = _distance(person, lost, faces.boxes[j], faces.landmarks[j])
                    if away < GATE + GATE_GROWTH * (lost - 1):
                        pairs.append((away - similarity, i, j))
                if lost > 1 and similarity > SAME_PERSON:
                    pairs.append((10 - similarity, i, j))
        for _, i, j in sorted(pairs):
            if i in free_people and j in free_faces:
                person = self.people[i]
                self._bridge(person, now, faces.boxes[j], faces.landmarks[j], appearances[j], images)
                self._add(person, now, faces.boxes[j], faces.landmarks[j], float(faces.scores[j]), appearances[j])
                free_people.remove(i)
                free_faces.remove(j)
        for j in sorted(free_faces):
            person = Person(appearances[j], appearances[j])
            self.people.append(person)
            self._add(person, now, faces.boxes[j], faces.landmarks[j], float(faces.scores[j]), appearances[j])

        # Forget sightings that nothing can need any more, and people who were not there after all.
        oldest = self.num_decided - self.radius - 1
        for person in self.people:
            person.seen = {frame: seen for frame, seen in person.seen.items() if frame >= oldest}
        self.people = [person for person in self.people if person.seen or person.track_id >= 0]
        if len(self.people) > MAX_PEOPLE:
            self.people.remove(min(self.people, key=lambda person: person.last))

    def _bridge(
        self,
        person: Person,
        now: int,
        box: np.ndarray,
        landmarks: np.ndarray,
        appearance_now: np.ndarray,
        images: Mapping[int, np.ndarray],
    ) -> None:
        """Fill in the frames in which a face was lost, on a straight line, if it looks the same in each of them."""
        gap = range(person.last + 1, now)
        if not 0 < len(gap) <= self.max_gap or person.last not in person.seen:
            return
        before = person.seen[person.last]
        filled = {}
        for frame in gap:
            part = (frame - person.last) / (now - person.last)
            place = (1 - part) * before.landmarks + part * landmarks
            box_there = ((1 - part) * before.box + part * box).astype(np.float32)
            there = compute_appearance(images[frame], place)
            alike = max(there @ person.latest_appearance, there @ appearance_now) > STILL_THERE
            if not alike or self._is_taken(person, frame, box_there):
                return
            filled[frame] = Sighting(box_there, place.astype(np.float32), 0.0)
        person.seen |= filled

    def _is_taken(self, person: Person, frame: int, box: np.ndarray) -> bool:
        """Whether somebody else was seen in that place."""
        return any(
            _overlap(other.seen[frame].box, box) > 0.3
            for other in self.people
            if other is not person and frame in other.seen and other.seen[frame].score > 0
        )

    def _add(
        self,
        person: Person,
        now: int,
        box: np.ndarray,
        landmarks: np.ndarray,
        score: float,
        appearance_now: np.ndarray,
    ) -> None:
        if person.last in person.seen and now - person.last <= self.max_gap + 1:
            step = (landmarks - person.seen[person.last].landmarks).mean(axis=0) / (now - person.last)
            # Half of the newest step: landmarks tremble, and a wrong guess is worse than none.
            person.velocity = (0.5 * person.velocity + 0.5 * step).astype(np.float32)
        else:
            person.velocity = np.zeros(2, np.float32)
        mixed = 0.9 * person.usual_appearance + 0.1 * appearance_now
        person.usual_appearance, person.latest_appearance = normalize(mixed), appearance_now
        person.seen[now] = Sighting(box, landmarks, score)
        person.last = now

    # Deciding

    def _decide(self, frame: int, ended: bool) -> None:
        """Who is there in a frame, and where; with `ended`, no later frame is going to come."""
        here: list[tuple[float, PlacedFace]] = []
        for person in self.people:
            if frame not in person.seen:
                person.believed = person.large_enough = False
                continue
            # The run of frames in which the person is seen, as far as smoothing reaches
            first = last = frame
            while first > frame - self.radius and first - 1 in person.seen:
                first -= 1
            while last < frame + self.radius and last + 1 in person.seen:
                last += 1
            run = {i: person.seen[i] for i in range(first, last + 1)}
            if not person.believed:
                known = takewhile(person.seen.__contains__, range(first, self.num_seen))
                sightings = sum(person.seen[i].score > 0 for i in known)
                if sightings < (min(MIN_SIGHTINGS, self.num_seen - self.first_frame) if ended else MIN_SIGHTINGS):
                    continue
                person.believed = True
                if person.track_id < 0:
                    person.track_id, self.next_id = self.next_id, self.next_id + 1
            size = float(np.median([(seen.box[2:] - seen.box[:2]).max() for seen in run.values()]))
            person.large_enough = size >= self.min_face_size * (SIZE_MARGIN if person.large_enough else 1)
            if person.large_enough:
                place = _smooth_at(frame, {i: seen.landmarks for i, seen in run.items()}, self.sigma)
                here.append((size, PlacedFace(person.track_id, -1, run[frame].box, place, run[frame].score)))

        selected = self._select(here)
        for face in selected:
            if face.track_id not in self.segments:
                self.segments[face.track_id], self.next_segment = self.next_segment, self.next_segment + 1
            face.segment = self.segments[face.track_id]
        self.segments = {face.track_id: face.segment for face in selected}
        self.decided[frame] = selected
        self.num_decided = frame + 1

    def _select(self, here: list[tuple[float, PlacedFace]]) -> list[PlacedFace]:
        if self.faces == "all":
            return [face for _, face in here]
        if self.faces != "largest":
            return [face for _, face in here if face.track_id in self.faces]
        # Whoever was the largest is given some advantage, so that equals do not take turns.
        sizes = {face.track_id: size / (SIZE_MARGIN if face.track_id == self.chosen else 1) for size, face in here}
        self.chosen = max(sizes, key=lambda track_id: (sizes[track_id], -track_id), default=-1)
        return [face for _, face in here if face.track_id == self.chosen]

    def _place(self, ended: bool) -> list[list[PlacedFace]]:
        """Fade the faces of the frames whose neighbours are decided."""
        placed = []
        while self.num_placed < (self.num_decided if ended else self.num_decided - self.fade):
            now = self.num_placed
            for face in self.decided[now]:
                # The beginning and the end of the scene are no coming and going.
                steps = [
                    next((i for i in range(1, self.fade + 1) if self._is_away(face.segment, now + way * i)), None)
                    for way in (-1, 1)
                ]
                face.weight = min([i for i in steps if i is not None], default=self.fade + 1) / (self.fade + 1)
            placed.append(self.decided[now])
            self.num_placed += 1
            self.decided.pop(now - self.fade, None)
        return placed

    def _is_away(self, segment: int, frame: int) -> bool:
        return frame in self.decided and all(face.segment != segment for face in self.decided[frame])


def smoothing_radius(sigma: float) -> int:
    """Frames to either side that a Gaussian of `sigma` frames reaches."""
    return int(4 * sigma + 0.5)


def smooth_landmarks(landmarks: np.ndarray, sigma: float) -> np.ndarray:
    """Smooth landmarks along time with a Gaussian, the ends continued in the mirror.

    Equal to the published smoothing for `sigma` of 5 frames, which is 0.2 seconds at 25 frames per second.

    Args:
        landmarks (`np.ndarray` of shape `(n, ...)`):
            Landmarks of consecutive frames.
        sigma (`float`):
            Width of the Gaussian in frames; 0 leaves the landmarks as they are.

    Returns:
        `np.ndarray` of shape `(n, ...)`, float64: the smoothed landmarks.

    Raises:
        ValueError: If `sigma` is negative.
    """
    if sigma < 0:
        raise ValueError(f"sigma must not be negative, got {sigma}: pass seconds times frames per second.")
    points = dict(enumerate(landmarks))
    return np.array([_smooth_at(frame, points, sigma) for frame in points]).reshape(landmarks.shape)


def _smooth_at(frame: int, points: Mapping[int, np.ndarray], sigma: float) -> np.ndarray:
    """Gaussian mean around a frame; `points` are those of consecutive frames, as far as the Gaussian reaches."""
    radius = smoothing_radius(sigma)
    if radius == 0:
        return points[frame].astype(np.float64)
    first, number = min(points), len(points)
    mean, total = np.zeros(points[frame].shape), 0.0
    for offset in range(-radius, radius + 1):
        weight = float(np.exp(-0.5 * (offset / sigma) ** 2))
        # ... 2 1 0 | 0 1 2 ... n-1 | n-1 n-2 ...
        place = (frame + offset - first) % (2 * number)
        mean += weight * points[first + min(place, 2 * number - 1 - place)]
        total += weight
    return mean / total


def _distance(person: Person, lost: int, box: np.ndarray, landmarks: np.ndarray) -> float:
    """How far a face lies from where the person should be, in sides of the face; a change of size counts as well."""
    before = person.seen[person.last]
    side_then, side_now = (np.sqrt(np.prod(corners[2:] - corners[:2])) for corners in (before.box, box))
    foreseen = before.landmarks + person.velocity * lost
    away = np.linalg.norm(landmarks - foreseen, axis=1).mean() / max(side_then, side_now)
    return float(away + 0.5 * abs(np.log(side_now / side_then)))


def _overlap(a: np.ndarray, b: np.ndarray) -> float:
    """Shared part of the smaller of two boxes."""
    sides = np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2])
    smaller = min(np.prod(a[2:] - a[:2]), np.prod(b[2:] - b[:2]))
    return float(np.prod(np.maximum(sides, 0)) / max(smaller, 1e-6))
