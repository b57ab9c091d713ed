"""What a restoration reports of its tracks and of the memory it used, as plain numbers."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from ..faces.alignment import crop_side
from ..faces.tracking.tracks import PlacedFace
from .auto_strength import Judgement, StrengthSummary


@dataclass
class TrackSummary:
    """One person, summarized while their frames are restored.

    Attributes:
        track_id (`int`): Number of the person.
        first_frame, last_frame (`int`): Indices of their first and last frame so far.
        appearances (`list[list[int]]`): First and last frame of each appearance; the frames between are without the
            person.
        num_frames (`int`): Number of frames.
        num_filled (`int`): Number of frames in which the face was not detected but interpolated.
        smallest, largest (`float`): Range of the longer side of the box, in pixels.
        size_sum (`float`): Sum of the longer sides.
        largest_crop (`float`): Largest side of the square around the face that is restored, in pixels of the source.
        similarity_sum (`float`, *optional*): Sum of the similarities of the face before and after; `None` without a
            face recognition network.
        used ([`StrengthSummary`], *optional*): How much of the restored face was used, and why; `None` before the
            first frame.
        clearest_frame (`int`): Index of the frame in which the face is largest and clearest, for a portrait.
        clearest_box (`list[float]`): The face in that frame: left, top, right and bottom in pixels of the source.
        clearest_quality (`float`): The size of that face, weighted by the score of the detector.
    """

    track_id: int
    first_frame: int
    last_frame: int
    num_frames: int = 0
    num_filled: int = 0
    smallest: float = float("inf")
    largest: float = 0.0
    size_sum: float = 0.0
    largest_crop: float = 0.0
    similarity_sum: float | None = None
    used: StrengthSummary | None = None
    clearest_frame: int = 0
    clearest_box: list[float] = field(default_factory=list)
    clearest_quality: float = -1.0
    appearances: list[list[int]] = field(default_factory=list)

    def add(self, frame: int, face: PlacedFace, similarity: float | None, judgement: Judgement) -> None:
        """Add the next frame of the track.

        Args:
            frame (`int`): Index of the frame.
            face ([`PlacedFace`]): The face in this frame.
            similarity (`float`, *optional*): Cosine similarity of the face before and after, from -1 to 1.
            judgement ([`Judgement`]): How much of the restored face was used.
        """
        size = float((face.box[2:] - face.box[:2]).max())
        if self.appearances and frame == self.last_frame + 1:
            self.appearances[-1][1] = frame
        else:
            self.appearances.append([frame, frame])
        self.last_frame = frame
        self.num_frames += 1
        self.num_filled += int(face.score == 0)
        self.smallest, self.largest = min(self.smallest, size), max(self.largest, size)
        self.size_sum += size
        self.largest_crop = max(self.largest_crop, crop_side(face.landmarks))
        if size * face.score > self.clearest_quality:
            self.clearest_frame, self.clearest_quality = frame, size * face.score
            self.clearest_box = [round(float(side), 1) for side in face.box]
        if similarity is not None:
            self.similarity_sum = (self.similarity_sum or 0.0) + similarity
        self.used = self.used or StrengthSummary(judgement.measured is not None)
        self.used.add(judgement)

    def merge(self, later: "TrackSummary", offset: int) -> None:
        """Add the summary of the same person in a later part of the video.

        Args:
            later ([`TrackSummary`]): The summary.
            offset (`int`): Index of the first frame of that part in the video.
        """
        appearances = [[first + offset, last + offset] for first, last in later.appearances]
        if self.appearances and appearances[0][0] == self.appearances[-1][1] + 1:
            self.appearances[-1][1] = appearances.pop(0)[1]
        self.appearances += appearances
        self.last_frame = later.last_frame + offset
        for name in ("num_frames", "num_filled", "size_sum"):
            setattr(self, name, getattr(self, name) + getattr(later, name))
        self.smallest, self.largest = min(self.smallest, later.smallest), max(self.largest, later.largest)
        self.largest_crop = max(self.largest_crop, later.largest_crop)
        if later.clearest_quality > self.clearest_quality:
            self.clearest_frame, self.clearest_quality = later.clearest_frame + offset, later.clearest_quality
            self.clearest_box = later.clearest_box
        if later.similarity_sum is not None:
            self.similarity_sum = (self.similarity_sum or 0.0) + later.similarity_sum
        if later.used is not None:
            self.used = self.used or StrengthSummary(later.used.is_automatic)
            self.used.merge(later.used)

    def to_dict(self) -> dict[str, Any]:
        """Return the entry of the track in the report."""
        entry: dict[str, Any] = {
            "id": self.track_id,
            "first_frame": self.first_frame,
            "last_frame": self.last_frame,
            "appearances": [list(appearance) for appearance in self.appearances],
            "frames": self.num_frames,
            "filled_frames": self.num_filled,
            "face_size": round(self.size_sum / self.num_frames, 1),
            "face_size_range": [round(self.smallest, 1), round(self.largest, 1)],
            "largest_crop": round(self.largest_crop, 1),
            "clearest": {"frame": self.clearest_frame, "box": self.clearest_box},
        }
        if self.similarity_sum is not None:
            entry["identity"] = round(self.similarity_sum / self.num_frames, 4)
        if self.used is not None:
            entry["strength"] = self.used.to_dict()
        return entry

    def state_dict(self) -> dict[str, Any]:
        """Return the fields as plain numbers."""
        return vars(self) | {"used": vars(self.used) if self.used else None}

    @classmethod
    def from_state_dict(cls, state: Mapping[str, Any]) -> "TrackSummary":
        """Rebuild a summary from its `state_dict`."""
        used = state["used"]
        return cls(**dict(state) | {"used": StrengthSummary(**used) if used else None})


def peak_memory(device: torch.device) -> dict[str, int]:
    """Return the peak memory so far in bytes: "host" of this process and, for a GPU, "device" of its tensors."""
    if sys.platform == "win32":
        import psutil

        memory = {"host": psutil.Process().memory_info().peak_wset}
    else:
        import resource

        unit = 1 if sys.platform == "darwin" else 1024
        memory = {"host": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit}
    if device.type == "cuda":
        memory["device"] = torch.cuda.max_memory_allocated(device)
    return memory
