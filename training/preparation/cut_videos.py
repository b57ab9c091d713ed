"""Many videos -> clips, in several processes; what is done is kept, so that a killed run can be continued."""

import json
import os
import shutil
import signal
import sys
import threading
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from itertools import repeat
from multiprocessing import get_context, parent_process
from pathlib import Path
from typing import Any

import cv2
import torch

from keep_hf.video.open import open_video
from keep_hf.video.part_folder import Setting

from .cut_clips import CutClip, DroppedSegment, Settings, cut_clips
from .detectors import load_detector
from .source_videos import SourceVideo


@dataclass(frozen=True)
class CutVideo:
    """A video whose clips are cut.

    Attributes:
        version (`dict`): [`SourceVideo.version`] when it was cut.
        folder (`str`): Name of the folder of its clips.
        clips (`list[CutClip]`): The clips.
        dropped (`list[DroppedSegment]`): The segments that did not become clips.
    """

    version: dict[str, Setting]
    folder: str
    clips: list[CutClip]
    dropped: list[DroppedSegment]

    @classmethod
    def from_json(cls, text: str) -> "CutVideo":
        content = json.loads(text)
        clips = [CutClip(**clip) for clip in content["clips"]]
        return cls(content["version"], content["folder"], clips, [DroppedSegment(**d) for d in content["dropped"]])


@dataclass(frozen=True)
class FailedVideo:
    """A video that could not be cut, and why."""

    error: str


def cut_videos(
    videos: list[SourceVideo], folder: Path, detector: str, settings: Settings, workers: int
) -> dict[str, CutVideo | FailedVideo]:
    """Cut the videos that are not cut yet, and report each on the standard output.

    Args:
        videos (`list[SourceVideo]`): The videos.
        folder (`Path`): Where clips and results are written. Results that are there already are used.
        detector (`str`): Name for [`load_detector`].
        settings ([`Settings`]): What becomes a clip.
        workers (`int`): Number of processes.

    Returns:
        `dict[str, CutVideo | FailedVideo]`: by the name of the video.
    """
    results: dict[str, CutVideo | FailedVideo] = {}
    for video in videos:
        if done := load_result(video, folder):
            results[video.name] = done
    if results:
        print(f"{len(results)} of {len(videos)} videos are done already")
    waiting = [video for video in videos if video.name not in results]
    # The processes are not forked, because OpenCV and torch have threads.
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=start_worker) as pool:
        finished = pool.map(cut_video, waiting, repeat(folder), repeat(detector), repeat(settings))
        for video, result in zip(waiting, finished, strict=True):
            results[video.name] = result
            report(video, result, settings)
    return results


def start_worker() -> None:
    """Use one thread, and end when the parent process ends for any reason."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    cv2.setNumThreads(1)
    torch.set_num_threads(1)

    def follow_parent() -> None:
        parent = parent_process()
        assert parent is not None
        parent.join()
        os._exit(1)

    threading.Thread(target=follow_parent, daemon=True).start()


def cut_video(video: SourceVideo, folder: Path, detector: str, settings: Settings) -> CutVideo | FailedVideo:
    """Cut one video: write its clips to `folder / key`, and the result to `folder / key.json`."""
    clips_folder = folder / video.key
    try:
        if clips_folder.exists():  # left by a run that was killed, or cut from another version of the video
            shutil.rmtree(clips_folder)
        clips_folder.mkdir()
        with open_video(video.path, video.frame_rate) as reader:
            clips, dropped = cut_clips(reader, video.name, clips_folder, load_detector(detector), settings)
    except (ValueError, OSError) as error:
        return FailedVideo(" ".join(str(error).split()))
    result = CutVideo(video.version(), video.key, clips, dropped)
    write_json(folder / f"{video.key}.json", asdict(result))
    return result


def load_result(video: SourceVideo, folder: Path) -> CutVideo | None:
    """The result of an earlier run, unless there is none or the video has changed since."""
    path = folder / f"{video.key}.json"
    if not path.exists():
        return None
    result = CutVideo.from_json(path.read_text())
    return result if result.version == video.version() else None


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a file that is complete whenever it exists."""
    part = path.with_name(f"{path.name}.new")
    part.write_text(json.dumps(content))
    os.replace(part, path)


def report(video: SourceVideo, result: CutVideo | FailedVideo, settings: Settings) -> None:
    if isinstance(result, FailedVideo):
        print(f"prepare_data: {video.name}: {result.error}", file=sys.stderr)
        return
    frames = sum(clip.num_frames for clip in result.clips)
    print(f"{video.name}: {len(result.clips)} clips, {frames} frames", flush=True)
    for segment in result.dropped:
        reason = {
            "length": f"{segment.value} frames are less than --min-frames {settings.min_frames}",
            "size": f"face of {segment.value:.0f} px is smaller than --min-size {settings.min_size:g}",
            "sharpness": f"sharpness of {segment.value:.3f} is below --min-sharpness {settings.min_sharpness:g}",
        }[segment.reason]
        frames_of_it = f"frames {segment.first_frame} to {segment.last_frame}"
        print(f"  dropped: person {segment.person}, {frames_of_it}: {reason}", flush=True)
