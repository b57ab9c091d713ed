"""From faces of single frames to people followed through a clip.

Faces are linked from frame to frame where the motion so far says they should be, short gaps are filled, and landmarks
are smoothed along time.  The published script takes the largest face of every frame for the same person and smooths
across scene cuts; here everybody is followed, and nobody across a cut.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from .detector import Faces


# Largest distance between the place foreseen and the place found, in sides of the face; it grows while a face is lost.
GATE = 0.5
GATE_GROWTH = 0.05


@dataclass
class FaceTrack:
    """One person in consecutive frames.

    Args:
        track_id (`int`):
            Number of the track in its clip, in the order of appearance.
        frames (`np.ndarray` of shape `(n,)`, int64):
            Indices of the frames, without gaps.
        boxes (`np.ndarray` of shape `(n, 4)`, float32):
            Left, top, right and bottom in pixels of the frame.
        landmarks (`np.ndarray` of shape `(n, 5, 2)`, float32):
            Five points in pixels of the frame, see [`Faces`].
        scores (`np.ndarray` of shape `(n,)`, float32):
            Confidence from 0 to 1; exactly 0 where the face was not seen and its place is interpolated.
    """

    track_id: int
    frames: np.ndarray
    boxes: np.ndarray
    landmarks: np.ndarray
    scores: np.ndarray

    def __len__(self) -> int:
        return len(self.frames)


@dataclass
class _Open:
    """A track that still grows: what was seen of it, and its velocity in pixels per frame."""

    frames: list[int] = field(default_factory=list)
    boxes: list[np.ndarray] = field(default_factory=list)
    landmarks: list[np.ndarray] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    velocity: np.ndarray = field(default_factory=lambda: np.zeros(2, np.float32))

    def add(self, frame: int, box: np.ndarray, landmarks: np.ndarray, score: float) -> None:
        if self.frames:
            step = (landmarks - self.landmarks[-1]).mean(axis=0) / (frame - self.frames[-1])
            # Half of the newest step: landmarks tremble, and a wrong guess is worse than none.
            self.velocity = 0.5 * self.velocity + 0.5 * step
        self.frames.append(frame)
        self.boxes.append(box)
        self.landmarks.append(landmarks)
        self.scores.append(score)


def link_faces(
    detections: list[Faces],
    max_gap: int = 12,
    min_length: int = 3,
    min_face_size: float = 0.0,
    cuts: Sequence[int] = (),
) -> list[FaceTrack]:
    """Link the faces of a clip to tracks.

    Args:
        detections (`list[Faces]`):
            The faces of each frame.
        max_gap (`int`, defaults to 12):
            Frames for which a face may be lost and still continue its track; half a second at 25 frames per second.
        min_length (`int`, defaults to 3):
            Tracks seen in fewer frames are dropped as errors of the detector, unless the scene is shorter.
        min_face_size (`float`, defaults to 0):
            Tracks with a smaller face are dropped: the median over the track of the longer side of the box, in pixels.
        cuts (`Sequence[int]`, defaults to `()`):
            First frames of new scenes: no track goes on across them.

    Returns:
        `list[FaceTrack]`: the tracks in the order of appearance, gaps filled.

    Raises:
        ValueError: If a cut lies outside the clip.
    """
    if any(not 0 <= cut < max(len(detections), 1) for cut in cuts):
        raise ValueError(f"cuts must be frames of the clip, 0 to {len(detections) - 1}, got {list(cuts)}.")
    tracks: list[FaceTrack] = []
    scene_starts = sorted({0, *cuts})
    for start, end in zip(scene_starts, [*scene_starts[1:], len(detections)], strict=True):
        for seen in _link_scene(detections, range(start, end), max_gap):
            long_enough = len(seen.frames) >= min(min_length, end - start)
            corners = np.array(seen.boxes)
            size = np.median((corners[:, 2:] - corners[:, :2]).max(axis=1))
            if long_enough and size >= min_face_size:
                tracks.append(_fill_gaps(len(tracks), seen))
    return tracks


def _link_scene(detections: list[Faces], frames: range, max_gap: int) -> list[_Open]:
    tracks: list[_Open] = []
    for frame in frames:
        faces = detections[frame]
        live = [track for track in tracks if frame - track.frames[-1] <= max_gap + 1]
        # Closest pairs first, each track and each face once.
        pairs = []
        for i, track in enumerate(live):
            lost = frame - track.frames[-1]
            for j in range(len(faces)):
                distance = _distance(track, lost, faces.boxes[j], faces.landmarks[j])
                if distance < GATE + GATE_GROWTH * (lost - 1):
                    pairs.append((distance, i, j))
        free_tracks, free_faces = set(range(len(live))), set(range(len(faces)))
        for _, i, j in sorted(pairs):
            if i in free_tracks and j in free_faces:
                live[i].add(frame, faces.boxes[j], faces.landmarks[j], float(faces.scores[j]))
                free_tracks.remove(i)
                free_faces.remove(j)
        for j in sorted(free_faces):
            tracks.append(_Open())
            tracks[-1].add(frame, faces.boxes[j], faces.landmarks[j], float(faces.scores[j]))
    return tracks


def _distance(track: _Open, lost: int, box: np.ndarray, landmarks: np.ndarray) -> float:
    """How far a face lies from where the track should be, in sides of the face; a change of size counts as well."""
    side_then, side_now = (np.sqrt(np.prod(b[2:] - b[:2])) for b in (track.boxes[-1], box))
    foreseen = track.landmarks[-1] + track.velocity * lost
    away = np.linalg.norm(landmarks - foreseen, axis=1).mean() / max(side_then, side_now)
    return float(away + 0.5 * abs(np.log(side_now / side_then)))


def _fill_gaps(track_id: int, seen: _Open) -> FaceTrack:
    frames = np.arange(seen.frames[0], seen.frames[-1] + 1)

    def fill(values: list[np.ndarray]) -> np.ndarray:
        columns = np.array(values).reshape(len(values), -1).T
        filled = np.stack([np.interp(frames, seen.frames, column) for column in columns], axis=1)
        return filled.reshape(len(frames), *values[0].shape).astype(np.float32)

    scores = np.zeros(len(frames), np.float32)
    scores[np.array(seen.frames) - frames[0]] = seen.scores
    return FaceTrack(track_id, frames, fill(seen.boxes), fill(seen.landmarks), scores)


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
    radius = int(4 * sigma + 0.5)
    if radius == 0:
        return landmarks.astype(np.float64)
    weights = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    weights /= weights.sum()
    columns = landmarks.reshape(len(landmarks), -1).astype(np.float64)
    padded = np.pad(columns, ((radius, radius), (0, 0)), mode="symmetric")
    smooth = sum(weight * padded[i : i + len(columns)] for i, weight in enumerate(weights))
    return np.reshape(smooth, landmarks.shape)


def largest(tracks: list[FaceTrack]) -> list[FaceTrack]:
    """Keep one face at a time, the one that covers the most pixels over its whole track.

    Args:
        tracks (`list[FaceTrack]`):
            The tracks of a clip.

    Returns:
        `list[FaceTrack]`: the tracks kept, in the order of appearance.  A smaller face stays if for at least half of
        its frames no larger one is there.
    """
    kept: list[FaceTrack] = []
    taken: set[int] = set()
    for track in sorted(tracks, key=lambda track: -np.prod(track.boxes[:, 2:] - track.boxes[:, :2], axis=1).sum()):
        if 2 * len(taken.intersection(track.frames.tolist())) <= len(track):
            kept.append(track)
            taken.update(track.frames.tolist())
    return sorted(kept, key=lambda track: track.track_id)
