"""Which task comes next: the driver of a run, without the engine that carries the tasks out.

Videos are planned only as fast as their scenes are restored, so that a folder of any size takes little memory. Of the
scenes that are waiting, the longest comes first: a long scene that starts last would keep one worker busy at the end.
"""

import heapq
from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from ..video.part_folder import describe_source
from .journal import Journal
from .plan import VideoPlan
from .tasks import JOIN, PLAN, SCENE, WHOLE, Task, TaskResult, Video


MAX_LOST = 3  # workers that may be lost with a task before its video is given up


class Schedule:
    """The tasks of a run.

    Args:
        videos (`Sequence[Video]`): The videos, the longest first.
        journal ([`Journal`]): Gets all results; has those of the driver before.
        lead (`int`): Number of scenes that may wait before further videos are planned.

    Attributes:
        reports (`dict[Video, dict]`): The reports of the videos that are finished.
        failures (`dict[Video, str]`): Why videos failed.

    Raises:
        ValueError: If a source has changed since the earlier driver planned it, or the folder for the scenes of a
            video holds other files.
    """

    def __init__(self, videos: Sequence[Video], journal: Journal, lead: int) -> None:
        self.journal, self.lead = journal, lead
        self.reports: dict[Video, dict[str, Any]] = {}
        self.failures: dict[Video, str] = {}
        self._plans: deque[Task] = deque()
        self._joins: deque[Task] = deque()
        self._units: list[tuple[int, int, Task]] = []  # heap: minus the number of frames, order, task
        self._left: dict[Video, int] = {}  # scenes that are not restored
        self._planned: dict[Video, VideoPlan] = {}
        self._num_added = self._num_running = 0
        for video in videos:
            target = str(video.target)
            if target in journal.plans:
                self._check_version(video, journal.plans[target])
            if target in journal.reports and video.target.exists():
                self._finish(video, journal.reports[target])
            elif target in journal.plans:
                self._divide(video, journal.plans[target], journal.scenes.get(target, set()))
            else:
                video.remove_folder()
                self._plans.append(Task(PLAN, video))

    @property
    def is_over(self) -> bool:
        """Whether no task is left, waiting or running."""
        return not (self._plans or self._joins or self._units or self._num_running)

    def next(self) -> Task | None:
        """The task to carry out next; `None` if there is none before another one ends."""
        task = self._choose()
        self._num_running += task is not None
        return task

    def _choose(self) -> Task | None:
        if self._joins:
            return self._joins.popleft()
        if self._plans and len(self._units) < self.lead:
            return self._plans.popleft()
        while self._units:
            task = heapq.heappop(self._units)[2]
            if task.video not in self.failures:
                return task
        return self._plans.popleft() if self._plans else None

    def finish(self, task: Task, result: TaskResult) -> None:
        """Take the result of a task."""
        self._num_running -= 1
        video = task.video
        if result.error is not None:
            self.journal.add("failed", task, result)
            self.failures.setdefault(video, result.error)
        elif task.kind == PLAN:
            assert result.plan is not None
            self.journal.add("planned", task, result)
            self._divide(video, result.plan, set())
        elif task.kind == SCENE:
            self.journal.add("restored", task, result)
            self._left[video] -= 1
            self._join_if_complete(video)
        else:
            assert result.report is not None
            self.journal.add("finished", task, result)
            self._finish(video, self.journal.reports[str(video.target)])

    def lose(self, task: Task, reason: str) -> None:
        """Take back a task whose worker was lost: another one carries it out, unless workers are lost again."""
        result = TaskResult("", 0.0, error=reason)
        if task.attempt + 1 < MAX_LOST:
            self.journal.add("lost", task, result)
            self._num_running -= 1
            self._add(replace(task, attempt=task.attempt + 1))
        else:
            self.finish(task, replace(result, error=f"{MAX_LOST} workers were lost with it, at last: {reason}"))

    def _add(self, task: Task) -> None:
        if task.kind == PLAN:
            self._plans.append(task)
        elif task.kind == JOIN:
            self._joins.append(task)
        else:
            length = len(task.scene) if task.scene else task.plan.num_frames if task.plan else 0
            self._num_added += 1
            heapq.heappush(self._units, (-length, self._num_added, task))

    def _divide(self, video: Video, plan: VideoPlan, restored: set[int]) -> None:
        if not plan.scenes:
            self._add(Task(WHOLE, video, plan))
            return
        waiting = [scene for scene in plan.scenes if scene.number not in restored]
        self._left[video], self._planned[video] = len(waiting), plan
        for scene in waiting:
            self._add(Task(SCENE, video, scene=scene))
        self._join_if_complete(video)

    def _join_if_complete(self, video: Video) -> None:
        if self._left[video] == 0 and video not in self.failures:
            self._add(Task(JOIN, video, self._planned.pop(video)))

    def _finish(self, video: Video, report: dict[str, Any]) -> None:
        video.remove_scenes()
        self.reports[video] = report

    def _check_version(self, video: Video, plan: VideoPlan) -> None:
        if describe_source(video.source) != plan.source:
            raise ValueError(
                f"{video.source} has changed since the run that is to be resumed; start again without resume."
            )
