"""What is sent to workers and back: paths, numbers and text, never frames."""

import contextlib
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..options import EncodingOptions
from .plan import Scene, VideoPlan


# Kinds of tasks. PLAN: find the scenes. SCENE: restore one. WHOLE: restore a video that is not divided. JOIN: write
# the video from its scenes.
PLAN, SCENE, WHOLE, JOIN = "plan", "scene", "whole", "join"


# A folder from [`Video.scene_target`].
SCENE_FOLDER = re.compile(r"\d{5,}\.\w+\.part")


@dataclass(frozen=True)
class Video:
    """A video to restore.

    Args:
        source (`Path`): The video.
        target (`Path`): The result.
    """

    source: Path
    target: Path

    @property
    def folder(self) -> Path:
        """The folder of the restored scenes, beside the result; removed when it is finished."""
        return self.target.with_name(f"{self.target.name}.scenes")

    def remove_folder(self) -> None:
        """Delete the folder, if there is one.

        Raises:
            ValueError: If it holds anything but restored scenes.
        """
        if not self.folder.exists():
            return
        if not all(SCENE_FOLDER.fullmatch(path.name) for path in self.folder.iterdir()):
            raise ValueError(
                f"{self.folder} is needed for unfinished work, but holds files that this program has not written; "
                "move the folder away, or choose another output."
            )
        shutil.rmtree(self.folder)

    def remove_scenes(self) -> None:
        """Delete the restored scenes of a finished video. What cannot be deleted stays: the result is not affected."""
        if not self.folder.exists():
            return
        for path in self.folder.iterdir():
            if SCENE_FOLDER.fullmatch(path.name):
                shutil.rmtree(path, ignore_errors=True)
        with contextlib.suppress(OSError):
            self.folder.rmdir()

    def scene_target(self, scene: Scene) -> Path:
        """The name of a restored scene: a folder `NAME.part` with its segments."""
        return self.folder / f"{scene.number:05d}{self.target.suffix}"


@dataclass(frozen=True)
class Task:
    """A unit of work.

    Args:
        kind (`str`): PLAN, SCENE, WHOLE or JOIN.
        video ([`Video`]): The video.
        plan ([`VideoPlan`], *optional*): Its plan, for JOIN.
        scene ([`Scene`], *optional*): The scene, for SCENE.
        attempt (`int`): How many workers were lost with this task before.
    """

    kind: str
    video: Video
    plan: VideoPlan | None = None
    scene: Scene | None = None
    attempt: int = 0


@dataclass(frozen=True)
class TaskResult:
    """What became of a task.

    Args:
        worker (`str`): Host and process that carried it out.
        seconds (`float`): Time that it took.
        num_frames (`int`): Number of frames that were restored; those that a lost worker had finished do not count.
        plan ([`VideoPlan`], *optional*): The result of PLAN.
        report (`dict`, *optional*): The report of the video; the result of WHOLE and JOIN.
        messages (`list[str]`): Warnings.
        error (`str`, *optional*): Why it failed.
    """

    worker: str
    seconds: float
    num_frames: int = 0
    plan: VideoPlan | None = None
    report: dict[str, Any] | None = None
    messages: tuple[str, ...] = ()
    error: str | None = None


@dataclass(frozen=True, kw_only=True)
class RunSettings:
    """What is the same for all tasks of a run; see [`restore_videos`]."""

    encoding: EncodingOptions
    video_stream: int | None
    strict: bool
    resume: bool
    segment_frames: int
    longest_whole: int
