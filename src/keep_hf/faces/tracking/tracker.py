"""From the faces of single frames to people who are followed through a scene, while the frames stream in.

A face continues the track whose motion and appearance it fits best.  Where a face is lost for a moment, its place is
interpolated if the images show that it is still there; otherwise the person is away until they are found again, and
they keep their number if their appearance is the same.  People of earlier scenes are recognized by [`KnownPeople`].
A frame is decided when the look-ahead has been seen: by then every gap around it is filled or will stay open, and the
landmarks can be smoothed with the frames after it as well as with those before it.

The published script takes the largest face of every frame for the same person and smooths across scene cuts; here all
faces are followed, and none across a cut.
"""

from collections.abc import Collection, Mapping
from itertools import takewhile
from typing import Any

import numpy as np

from ...state_version import check_state_version
from ..alignment import can_be_aligned
from ..detection import Faces
from .appearance import compute_appearance
from .gaps import fill_gap
from .known_people import KnownPeople
from .matching import match_people
from .person import Detection, Person, Sighting
from .smoothing import smooth_at, smoothing_radius
from .tracks import PlacedFace


SMOOTHING_SECONDS = 0.2  # standard deviation: the published 5 frames at 25 frames per second
GAP_SECONDS = 0.5  # for which a face may be lost and still be interpolated
FADE_SECONDS = 0.2  # in which a restored face appears and vanishes inside a scene
MAX_FRAME_RATE = 60  # a higher frame rate does not make the look-ahead longer: its frames are held in memory
MIN_DETECTIONS = 3  # a face with fewer detections is an error of the detector
MAX_PEOPLE = 64  # remembered in one scene; the person who was not seen for longest is forgotten
# A face that counts, or is the largest one, stays so until it is clearly smaller: measured sizes vary.
SIZE_MARGIN = 0.8
STATE_VERSION = 2


class FaceTracker:
    """Follow the people of one scene.

    Args:
        frame_rate (`float`):
            Frames per second: gaps, smoothing and fades are measured in seconds.
        faces (`"all"`, `"largest"` or a collection of `int`, defaults to `"all"`):
            All people, one person at a time, or the people with these numbers.
        min_face_size (`float`, defaults to 0):
            Longer side of the box in pixels from which a face counts.
        first_frame (`int`, defaults to 0):
            Index of the first frame of the scene.
        next_segment (`int`, defaults to 0):
            The first number of a track segment that the scenes before have not used.
        known ([`KnownPeople`], *optional*):
            The people of the scenes before.
    """

    smoothing_seconds = SMOOTHING_SECONDS

    def __init__(
        self,
        frame_rate: float,
        faces: str | Collection[int] = "all",
        min_face_size: float = 0.0,
        first_frame: int = 0,
        next_segment: int = 0,
        known: KnownPeople | None = None,
    ) -> None:
        frame_rate = min(frame_rate, MAX_FRAME_RATE)
        self.faces, self.min_face_size = faces, min_face_size
        self.max_gap = max(1, round(GAP_SECONDS * frame_rate))
        self.sigma = self.smoothing_seconds * frame_rate
        self.radius = smoothing_radius(self.sigma)
        self.fade = max(1, round(FADE_SECONDS * frame_rate))
        # A decision needs every sighting that smoothing reaches, and a gap there is filled only when it ends.
        self.decide_after = self.radius + self.max_gap + MIN_DETECTIONS
        self.next_segment = next_segment
        self.known = known or KnownPeople()
        self.taken: set[int] = set()  # numbers of the people of this scene
        self.people: list[Person] = []
        self.first_frame = first_frame
        # The next frame that is to be seen, to be decided, and to be placed
        self.num_seen = self.num_decided = self.num_placed = first_frame
        self.chosen = -1  # number of the person who is the largest
        self.segments: dict[int, int] = {}  # track segments of the last decided frame, by person
        self.decided: dict[int, list[PlacedFace]] = {}  # frames around the next one to be placed

    @property
    def look_ahead(self) -> int:
        """Number of frames that are seen before a frame is decided."""
        return self.decide_after + self.fade

    def step(self, faces: Faces, images: Mapping[int, np.ndarray]) -> list[list[PlacedFace]]:
        """Take the faces of the next frame.

        Args:
            faces ([`Faces`]):
                As detected.
            images (`Mapping[int, np.ndarray]`):
                RGB frames `(h, w, 3)`, uint8, by index: the newest one, and the `look_ahead` frames before it.

        Returns:
            `list[list[PlacedFace]]`: the faces of the frames that are decided, in order: no frame while the look-ahead
            fills, then one frame per step.
        """
        now = self.num_seen
        self.num_seen += 1
        self._link(now, faces, images)
        self._forget()
        if now >= self.first_frame + self.decide_after:
            self._decide(now - self.decide_after, ended=False)
        return self._place(ended=False)

    def flush(self) -> list[list[PlacedFace]]:
        """End the scene and return the faces of the remaining frames."""
        while self.num_decided < self.num_seen:
            self._decide(self.num_decided, ended=True)
        for person in self.people:
            if person.track_id >= 0:
                self.known.remember(person.track_id, person.descriptor)
        return self._place(ended=True)

    # Linking

    def _link(self, now: int, faces: Faces, images: Mapping[int, np.ndarray]) -> None:
        """Add the faces of frame `now` to the people they belong to."""
        detections = []
        for box, landmarks, score in zip(faces.boxes, faces.landmarks, faces.scores, strict=True):
            if can_be_aligned(landmarks):
                appearance = compute_appearance(images[now], landmarks)
                detections.append(Detection(Sighting(box, landmarks, float(score)), appearance))

        new = set(range(len(detections)))
        for match in match_people(self.people, detections, now, self.max_gap):
            person, detection = self.people[match.person], detections[match.detection]
            self._bridge(person, now, detection, images)
            person.add(now, detection, self.max_gap)
            new.remove(match.detection)
        for index in sorted(new):
            detection = detections[index]
            person = Person(detection.appearance, detection.appearance)
            person.add(now, detection, self.max_gap)
            self.people.append(person)
        if self.known.identity is not None:
            self._embed(now, images[now])

    def _embed(self, now: int, image: np.ndarray) -> None:
        """Embed the first detections of every person, which their number depends on, and some of the later ones."""
        due = [
            person
            for person in self.people
            if person.last == now
            and (person.num_embedded < MIN_DETECTIONS or now - person.last_embedded > self.max_gap)
        ]
        if not due:
            return
        embeddings = self.known.embed(image, [person.seen[now].landmarks for person in due])
        for person, embedding in zip(due, embeddings, strict=True):
            person.add_embedding(now, embedding)

    def _bridge(self, person: Person, now: int, detection: Detection, images: Mapping[int, np.ndarray]) -> None:
        """Fill the frames in which a person was lost who is detected again in frame `now`."""
        fill_gap(person, now, detection, self.people, images, self.max_gap)

    def _forget(self) -> None:
        """Remove sightings that no later decision needs, and people who were never confirmed."""
        oldest = self.num_decided - max(self.radius, self.max_gap) - 1
        for person in self.people:
            person.seen = {frame: face for frame, face in person.seen.items() if frame >= oldest}
        self.people = [person for person in self.people if person.seen or person.track_id >= 0]
        if len(self.people) > MAX_PEOPLE:
            forgotten = min(self.people, key=lambda person: person.last)
            self.people.remove(forgotten)
            if forgotten.track_id >= 0:
                self.known.remember(forgotten.track_id, forgotten.descriptor)

    # Deciding

    def _decide(self, frame: int, ended: bool) -> None:
        """Decide who is in a frame, and where.  `ended`: no later frame follows."""
        present: list[tuple[float, PlacedFace]] = []
        for person, run in self._find_runs(frame, ended).items():
            size = float(np.median(np.array([face.size for face in run.values()], np.float32)))
            person.large_enough = size >= self.min_face_size * (SIZE_MARGIN if person.large_enough else 1)
            if person.large_enough:
                landmarks = self._smooth(frame, {i: face.landmarks for i, face in run.items()})
                # The mean of landmarks that turn around quickly, as in errors of the detector, is near one point.
                if not can_be_aligned(landmarks):
                    continue
                present.append((size, PlacedFace(person.track_id, -1, run[frame].box, landmarks, run[frame].score)))

        selected = self._select(present)
        for placed in selected:
            if placed.track_id not in self.segments:
                self.segments[placed.track_id] = self.next_segment
                self.next_segment += 1
            placed.segment = self.segments[placed.track_id]
        self.segments = {placed.track_id: placed.segment for placed in selected}
        self.decided[frame] = selected
        self.num_decided = frame + 1

    def _find_runs(self, frame: int, ended: bool) -> dict[Person, dict[int, Sighting]]:
        """Return the confirmed people in a frame, all with a number, and their sightings around it."""
        runs = {}
        for person in self.people:
            if frame not in person.seen:
                person.confirmed = person.large_enough = False
                continue
            run = person.run_around(frame, self.radius)
            if person.confirmed or self._confirm(person, min(run), ended):
                runs[person] = run
        new = [person for person in runs if person.track_id < 0]
        for person, number in zip(new, self.known.number([p.descriptor for p in new], self.taken), strict=True):
            person.track_id = number
            self.taken.add(number)
        return runs

    def _smooth(self, frame: int, landmarks: Mapping[int, np.ndarray]) -> np.ndarray:
        """Smooth the landmarks of a person in a frame; `landmarks` are those of the run around it."""
        return smooth_at(frame, landmarks, self.sigma)

    def _confirm(self, person: Person, first: int, ended: bool) -> bool:
        """Confirm a person if the run from frame `first` on has enough detections."""
        run = takewhile(person.seen.__contains__, range(first, self.num_seen))
        needed = min(MIN_DETECTIONS, self.num_seen - self.first_frame) if ended else MIN_DETECTIONS
        person.confirmed = sum(person.seen[i].is_detected for i in run) >= needed
        return person.confirmed

    def _select(self, present: list[tuple[float, PlacedFace]]) -> list[PlacedFace]:
        """Select the faces that are asked for.  `present` are all faces of a frame with their sizes."""
        if self.faces == "all":
            return [face for _, face in present]
        if self.faces != "largest":
            return [face for _, face in present if face.track_id in self.faces]
        # The person who was the largest has an advantage, so that two people of equal size do not alternate.
        sizes = {face.track_id: size / (SIZE_MARGIN if face.track_id == self.chosen else 1) for size, face in present}
        # Of two equal sizes the first one in the scene counts: numbers depend on the scenes before.
        self.chosen = max(sizes, key=lambda track_id: sizes[track_id], default=-1)
        return [face for _, face in present if face.track_id == self.chosen]

    # Placing

    def _place(self, ended: bool) -> list[list[PlacedFace]]:
        """Set the weights of the faces in the frames whose neighbours are decided."""
        placed = []
        while self.num_placed < (self.num_decided if ended else self.num_decided - self.fade):
            for face in self.decided[self.num_placed]:
                face.weight = self._fade_weight(face.segment, self.num_placed)
            placed.append(self.decided[self.num_placed])
            self.decided.pop(self.num_placed - self.fade, None)
            self.num_placed += 1
        return placed

    def _fade_weight(self, segment: int, frame: int) -> float:
        """Return the weight that grows linearly with the distance from the ends of a track segment.

        The ends of the scene are not ends of a segment: there is no frame without the person beyond them.
        """
        for distance in range(1, self.fade + 1):
            if self._is_away(segment, frame - distance) or self._is_away(segment, frame + distance):
                return distance / (self.fade + 1)
        return 1.0

    def _is_away(self, segment: int, frame: int) -> bool:
        return frame in self.decided and all(face.segment != segment for face in self.decided[frame])

    # Saving and resuming

    def state_dict(self) -> dict[str, Any]:
        """Return the state between two steps as numbers, arrays, lists and dictionaries."""
        return {
            "version": STATE_VERSION,
            "first_frame": self.first_frame,
            "num_seen": self.num_seen,
            "num_decided": self.num_decided,
            "num_placed": self.num_placed,
            "next_segment": self.next_segment,
            "known": self.known.state_dict(),
            "taken": sorted(self.taken),
            "chosen": self.chosen,
            "segments": dict(self.segments),
            "people": [person.state_dict() for person in self.people],
            "decided": {frame: [face.state_dict() for face in faces] for frame, faces in self.decided.items()},
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from the state of a tracker with the same `frame_rate`, `faces` and `min_face_size`.

        Args:
            state (`Mapping[str, Any]`): From `state_dict`.

        Raises:
            ValueError: If the state has another version.
        """
        check_state_version(state, STATE_VERSION, "FaceTracker")
        self.first_frame, self.num_seen = state["first_frame"], state["num_seen"]
        self.num_decided, self.num_placed = state["num_decided"], state["num_placed"]
        self.next_segment = state["next_segment"]
        self.known.load_state_dict(state["known"])
        self.taken = set(state["taken"])
        self.chosen, self.segments = state["chosen"], dict(state["segments"])
        self.people = [Person.from_state_dict(person) for person in state["people"]]
        self.decided = {
            frame: [PlacedFace.from_state_dict(face) for face in faces] for frame, faces in state["decided"].items()
        }
