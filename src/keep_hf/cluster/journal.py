"""The journal of a run: one line of JSON for everything that has happened, from which another driver continues."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..batch.json_lines import JsonLines
from .plan import Scene, VideoPlan
from .tasks import Task, TaskResult


class Journal:
    """A file of lines, each on the disk before the next task begins.

    Args:
        path (`Path`): The file.
        resume (`bool`): Whether to keep what an earlier driver has written; otherwise the file is emptied.

    Attributes:
        plans (`dict[str, VideoPlan]`): The plans of the earlier driver, by target.
        scenes (`dict[str, set[int]]`): Numbers of the scenes that are restored and not joined yet, by target.
        reports (`dict[str, dict]`): The reports of the videos that are finished, by target.
        messages (`dict[str, list[str]]`): The warnings of all tasks, by target.
    """

    def __init__(self, path: Path, resume: bool) -> None:
        self.path = path
        self.plans: dict[str, VideoPlan] = {}
        self.scenes: dict[str, set[int]] = {}
        self.reports: dict[str, dict[str, Any]] = {}
        self.messages: dict[str, list[str]] = {}
        if not resume:
            path.write_bytes(b"")
        self._lines = JsonLines(path)
        for entry in self._lines.read_new():
            self._read(entry)

    def add(self, event: str, task: Task, result: TaskResult) -> None:
        """Append a line for the result of a task.

        Args:
            event (`str`): "planned", "restored", "finished", "failed" or "lost".
            task ([`Task`]), result ([`TaskResult`]): The task.
        """
        entry: dict[str, Any] = {"event": event, "target": str(task.video.target)}
        if task.scene is not None:
            entry |= asdict(task.scene)
        entry |= {"worker": result.worker, "seconds": result.seconds, "frames": result.num_frames}
        entry |= {"attempt": task.attempt}
        if result.plan is not None:
            entry["plan"] = asdict(result.plan)
        if result.report is not None:
            entry["report"] = result.report
        entry |= {"messages": list(result.messages), "error": result.error}
        self._read(json.loads(json.dumps(entry)))
        self._lines.append([entry])

    def _read(self, entry: dict[str, Any]) -> None:
        target = entry["target"]
        self.messages.setdefault(target, []).extend(entry["messages"])
        if entry["event"] == "planned":
            scenes = [Scene(**scene) for scene in entry["plan"]["scenes"]]
            self.plans[target] = VideoPlan(**entry["plan"] | {"scenes": scenes})
        elif entry["event"] == "restored":
            self.scenes.setdefault(target, set()).add(entry["number"])
        elif entry["event"] == "finished":
            self.reports[target] = entry["report"]
            self.scenes.pop(target, None)  # removed after this line; needed again if the result is deleted
