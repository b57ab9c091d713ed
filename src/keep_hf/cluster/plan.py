"""The plan of a video: whether it is restored as a whole or scene by scene, and where its scenes begin."""

import zlib
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..faces.follower import HORIZONS
from ..faces.scene_cuts import CutFinder
from ..options import RestorationOptions
from ..video.decoding.source import VideoFrame
from ..video.open import open_video
from ..video.part_folder import Setting, describe_source
from ..video.reader import VideoReader, prefetch


@dataclass(frozen=True)
class Scene:
    """A scene of a video.

    Args:
        number (`int`): Counted from 0.
        start, end (`int`): Its first frame, and the one after its last.
        pts (`int`): Timestamp of its first frame.
        checksum (`int`): CRC-32 of its frames.
        can_seek (`bool`): Whether it can be read without the frames before it.
    """

    number: int
    start: int
    end: int
    pts: int
    checksum: int
    can_seek: bool

    def __len__(self) -> int:
        return self.end - self.start


@dataclass(frozen=True)
class VideoPlan:
    """How a video is divided.

    Args:
        source (`dict[str, Setting]`): Identifies the version of the source.
        scenes (`list[Scene]`): The scenes in order; empty if the video is restored as a whole.
        num_frames (`int`): Number of frames; of a video that is restored as a whole, what its header says, or 0.
        damage (`dict`): What is damaged in the source, for the report; empty for a whole video.
    """

    source: dict[str, Setting]
    scenes: list[Scene]
    num_frames: int
    damage: dict[str, Any]


def plan_video(
    source: Path,
    target: Path,
    options: RestorationOptions,
    *,
    video_stream: int | None = None,
    strict: bool = False,
    longest_whole: int,
) -> VideoPlan:
    """Find the scenes of a video. This reads all of it, unless it is short.

    A video is restored as a whole if it is short, or if a scene cannot be restored without those before it: people
    that are selected by their numbers, or have a strength of their own, are numbered in the whole video, and
    `gain_mode="official"` knows no scenes.
    Folders and animated images are restored as a whole, too.

    Args:
        source (`Path`): The video.
        target (`Path`): The result.
        options ([`RestorationOptions`]): The options.
        video_stream, strict: See [`KeepPipeline.restore_video`].
        longest_whole (`int`): Number of frames up to which a video is restored as a whole.

    Raises:
        ValueError: If the video cannot be read or, with `strict`, is damaged.
    """
    with open_video(source, options.frame_rate, strict, video_stream) as reader:
        version = describe_source(source)
        num_frames = reader.num_frames or 0
        is_short = reader.num_frames is not None and num_frames <= longest_whole
        names_people = not isinstance(options.faces, str) or options.person_strength is not None
        needs_whole = not target.suffix or options.gain_mode == "official" or names_people
        if is_short or needs_whole or not isinstance(reader, VideoReader):
            return VideoPlan(version, [], num_frames, {})
        scenes = find_scenes(prefetch(reader.read()), HORIZONS[options.latency].cuts)
        can_seek = reader.can_seek and not reader.damage.num_damaged and not reader.damage.num_resized
        scenes = [replace(scene, can_seek=can_seek) for scene in scenes]
        return VideoPlan(version, scenes, scenes[-1].end, reader.damage.to_dict(reader.path))


def find_scenes(frames: Iterable[VideoFrame], look_ahead: int) -> list[Scene]:
    """Find the scenes of a video.

    Args:
        frames (`Iterable[VideoFrame]`): All frames, at least one.
        look_ahead (`int`): That of the [`CutFinder`].
    """
    finder = CutFinder(look_ahead)
    scenes: list[Scene] = []
    undecided: deque[VideoFrame] = deque()

    def decide(is_cut: bool) -> None:
        frame = undecided.popleft()
        if is_cut or not scenes:
            start = scenes[-1].end if scenes else 0
            scenes.append(Scene(len(scenes), start, start, frame.pts, 0, False))
        scene = scenes[-1]
        content = np.ascontiguousarray(frame.image).data
        scenes[-1] = replace(scene, end=scene.end + 1, checksum=zlib.crc32(content, scene.checksum))

    for frame in frames:
        undecided.append(frame)
        is_cut = finder.step(frame.image)
        if is_cut is not None:
            decide(is_cut)
    for is_cut in finder.flush():
        decide(is_cut)
    return scenes
