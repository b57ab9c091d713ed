"""Measure videos against their references, or alone: the whole frames, and the faces in them.

    first pass     scenes and people, found in the reference            -> runs of neighbouring frames
    second pass    whole frames, scene by scene                         -> metrics.py
    further ones   faces: crops of 512 x 512 by the same matrices       -> metrics.py
                   of both videos, one person after the other;
                   as many passes as there are people at a time

Every pass decodes anew and holds a few frames.  Without a reference, faces are found in the video itself.  Aligned
frames are faces already: there is no second pass, and the third takes them as they are.
"""

import itertools
from collections import deque
from collections.abc import Callable, Collection, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from importlib.util import find_spec
from operator import itemgetter
from pathlib import Path

import numpy as np
import torch

from ..faces.alignment import crop_face, estimate_alignment
from ..faces.detector import FaceDetector
from ..faces.follower import FaceFollower, FollowedFrame
from ..faces.identity import FaceIdentity
from ..faces.landmarks import LandmarkNetwork
from ..faces.yunet import YuNet
from ..models.flow.gmflow import GMFlow
from ..models.lpips import LPIPS
from .dis_flow import DISFlow
from .metrics import compare_videos, inspect_video
from .pairs import Images, VideoPair
from .report import Evaluation, Part, Profile
from .series import Measure, VideoMeasures


PROFILE_FRAMES = 500  # more cannot be told apart in a picture
# By measure, the one of [`Networks`] and option of the command that it needs; PSNR and SSIM are by scikit-image.
NETWORK_OF = {
    "lpips": "lpips",
    "ids": "identity",
    "akd": "landmarks",
    "flicker": "flow",
    "reference_flicker": "flow",
    "identity_steps": "identity",
    "landmark_jitter": "landmarks",
}


@dataclass(frozen=True)
class Networks:
    """What measures.

    Args:
        identity ([`FaceIdentity`], *optional*): For IDS.
        landmarks ([`LandmarkNetwork`], *optional*): For AKD.
        lpips ([`LPIPS`], *optional*): For LPIPS.
        flow ([`GMFlow`] or [`DISFlow`], *optional*): For flicker.
    """

    identity: FaceIdentity | None = None
    landmarks: LandmarkNetwork | None = None
    lpips: LPIPS | None = None
    flow: GMFlow | DISFlow | None = None

    @classmethod
    def load(
        cls,
        identity: str | Path | None = None,
        landmarks: str | Path | None = None,
        lpips: str | Path | None = None,
        lpips_weights: str | Path | None = None,
        flow: GMFlow | DISFlow | None = None,
        device: torch.device | str = "cpu",
    ) -> "Networks":
        """Load what is named.

        Args:
            identity, landmarks (`str` or `Path`, *optional*): ONNX file, folder or Hub id.
            lpips (`str` or `Path`, *optional*): Folder or Hub id of an [`LPIPS`], or the file of its backbone.
            lpips_weights (`str` or `Path`, *optional*): With the file of a backbone that of the channel weights.
            flow ([`GMFlow`] or [`DISFlow`], *optional*): As it is.
            device (`torch.device` or `str`, defaults to `"cpu"`): Where LPIPS goes.

        Raises:
            ValueError: If something is not what it should be.
        """
        perceptual = None
        if lpips is not None and lpips_weights is not None:
            perceptual = LPIPS.from_checkpoints(lpips, lpips_weights).to(device)
        elif lpips_weights is not None or (lpips is not None and Path(lpips).is_file()):
            raise ValueError(
                "LPIPS comes as a folder or Hub repository (--lpips), or as the files of a backbone (--lpips) and of "
                f"the channel weights (--lpips-weights); got {lpips} and {lpips_weights}."
            )
        elif lpips is not None:
            perceptual = LPIPS.from_pretrained(lpips).to(device)
        return cls(
            identity=None if identity is None else FaceIdentity.from_pretrained(identity),
            landmarks=None if landmarks is None else LandmarkNetwork.from_pretrained(landmarks),
            lpips=perceptual,
            flow=flow,
        )

    def missing(self, table: dict[str, Measure]) -> dict[str, str]:
        """What is not there for the measures of a table, `COMPARED` or `INSPECTED`."""
        missing = {}
        for key, measure in table.items():
            if key not in NETWORK_OF and find_spec("skimage") is None:
                missing[key] = measure.needs
            elif key in NETWORK_OF and getattr(self, NETWORK_OF[key]) is None:
                missing[key] = f"{measure.needs} (--{NETWORK_OF[key]})"
        return missing


@dataclass
class Run:
    """Neighbouring frames of one scene that are measured together: whole ones, or one person's face in them.

    Args:
        first (`int`): Number of the first of them.
        person (`int`, *optional*): Whose face; `None` for whole frames.
        matrices (`list[np.ndarray | None]`): For each frame the map to the crop; `None` to take the frame as it is.
    """

    first: int
    person: int | None
    matrices: list[np.ndarray | None] = field(default_factory=list)

    @property
    def end(self) -> int:
        """Number of the frame after the last of them."""
        return self.first + len(self.matrices)


def evaluate_video(
    pair: VideoPair,
    networks: Networks,
    detector: FaceDetector | YuNet | None,
    *,
    faces: str | Collection[int] = "all",
    min_face_size: float = 0.0,
    name: str = "",
) -> Evaluation:
    """Measure a video against its reference or, without one, how steady it is.

    Args:
        pair ([`VideoPair`]): The video and its reference.
        networks ([`Networks`]): What measures; measures of networks that are not given are missing.
        detector ([`FaceDetector`] or [`YuNet`], *optional*): Finds faces; `None` for frames that are aligned faces.
        faces (`"all"`, `"largest"` or a collection of `int`, defaults to `"all"`): Whose faces count.
        min_face_size (`float`, defaults to 0): Pixels from which a face counts.
        name (`str`, defaults to `""`): For the result.

    Returns:
        [`Evaluation`]

    Raises:
        ValueError: If the videos cannot be read or compared, or aligned faces are not square.
    """
    scenes, visits = find_runs(pair, detector, faces, min_face_size)
    lengths: dict[int | None, int] = {}
    for run in visits:
        lengths[run.person] = lengths.get(run.person, 0) + len(run.matrices)
    longest = max(lengths, key=lambda person: lengths[person], default=None)
    profile = Profile(longest)

    parts: dict[int | None, Part] = {}
    for runs in ([] if detector is None else [scenes]) + share_out(visits):
        for run, measured in measure_runs(pair, runs, networks, profile):
            part = parts.setdefault(run.person, Part(name if run.person is None else str(run.person)))
            part.runs.append((run.first, measured))
    for part in parts.values():
        part.runs.sort(key=itemgetter(0))
    return Evaluation(
        name=name,
        sources=[str(reader.path) for reader in pair.readers],
        sizes=pair.sizes,
        size=pair.size,
        scenes=[scene.first for scene in scenes],
        num_frames=scenes[-1].end,
        whole=parts.pop(None, None),
        people=[parts[person] for person in sorted(parts, key=lambda person: person or 0)],
        profile=profile,
    )


def find_runs(
    pair: VideoPair, detector: FaceDetector | YuNet | None, faces: str | Collection[int], min_face_size: float
) -> tuple[list[Run], list[Run]]:
    """Find the scenes of a video, and everybody's visits: frames in which a person is there without a break."""
    follower = FaceFollower(detector, float(pair.readers[-1].frame_rate), faces, min_face_size)
    scenes: list[Run] = []
    visits: dict[int, Run] = {}

    def take(followed: list[FollowedFrame]) -> None:
        for frame in followed:
            if frame.starts_scene:
                scenes.append(Run(frame.index, None))
            scenes[-1].matrices.append(None)
            for face in frame.faces:
                matrix = None if detector is None else estimate_alignment(face.landmarks)
                visits.setdefault(face.segment, Run(frame.index, face.track_id)).matrices.append(matrix)

    for images in pair.read("scenes and people"):
        take(follower.step(images[-1]))
    take(follower.flush())
    return scenes, list(visits.values())


def share_out(visits: list[Run]) -> list[list[Run]]:
    """Share visits out over as few passes as can be, in each of which none overlaps another."""
    passes: list[list[Run]] = []
    for visit in sorted(visits, key=lambda visit: visit.first):
        free = next((runs for runs in passes if runs[-1].end <= visit.first), None)
        if free is None:
            passes.append([visit])
        else:
            free.append(visit)
    return passes


def measure_runs(
    pair: VideoPair, runs: list[Run], networks: Networks, profile: Profile
) -> Iterator[tuple[Run, VideoMeasures]]:
    """Measure runs, none of which overlaps another, in one pass through a video; the profile takes its columns."""
    are_faces = runs[0].person is not None
    chosen = vars(networks) if are_faces else {"lpips": networks.lpips, "flow": networks.flow}
    measure: Callable[..., VideoMeasures] = compare_videos
    if len(pair.readers) == 1:
        measure = inspect_video
        chosen = {key: network for key, network in chosen.items() if key != "lpips"}
    position = 0
    with closing(pair.read("faces" if are_faces else "whole frames")) as frames:
        for run in runs:
            crops = _cut(itertools.islice(frames, run.first - position, run.end - position), run, profile)
            yield run, measure(*_streams(crops)[: len(pair.readers)], **chosen)
            position = run.end


def _streams(pairs: Iterator[Images]) -> list[Iterator[np.ndarray]]:
    """Restored and reference as streams, to be taken from in turn; `itertools.tee` would hold 57 frames of each."""
    references: deque[np.ndarray] = deque()

    def restored() -> Iterator[np.ndarray]:
        for image, *reference in pairs:
            references.extend(reference)
            yield image

    def reference() -> Iterator[np.ndarray]:
        while references:
            yield references.popleft()

    return [restored(), reference()]


def _cut(frames: Iterator[Images], run: Run, profile: Profile) -> Iterator[Images]:
    for index, (images, matrix) in enumerate(zip(frames, run.matrices, strict=True), run.first):
        crops = images if matrix is None else tuple(crop_face(image, matrix) for image in images)
        if run.person == profile.person and len(profile.columns) < PROFILE_FRAMES:
            profile.columns[index] = tuple(crop[:, crop.shape[1] // 2].copy() for crop in crops)
        yield crops
