"""The tasks of a run on a Ray cluster: one actor for each GPU or, without GPUs, for each CPU core.

Each actor has one task at a time, so that at most as many tasks are in flight as there are actors, and a lost node
loses no more. The actors of lost workers and nodes are replaced here and not by Ray: an actor that Ray restarts keeps
its task and waits with it until the cluster has resources for it, although others have nothing to do.
"""

import contextlib
import os
from types import ModuleType
from typing import Any

from .schedule import Schedule
from .tasks import RunSettings, Task, TaskResult
from .worker import Prepare, Worker


MAX_FAILED_STARTS = 3  # one after the other, without a worker that starts


class RayWorker:
    """A [`Worker`] as an actor. The constructor does nothing that can fail."""

    def __init__(self, prepare: Prepare, settings: RunSettings) -> None:
        self.prepare, self.settings = prepare, settings

    def start(self) -> str:
        """Load the pipeline, and return the name of the worker."""
        self.worker = Worker(self.prepare, self.settings)
        return self.worker.name

    def run(self, task: Task) -> TaskResult:
        """Carry out a task."""
        return self.worker.run(task)


def import_ray() -> ModuleType:
    """Import Ray.

    Raises:
        ValueError: If it is not installed.
    """
    try:
        import ray
    except ImportError as error:
        raise ValueError("Ray is not installed; install it with: pip install 'ray>=2.60'.") from error
    return ray


class RayEngine:
    """The actors of a run.

    Args:
        schedule ([`Schedule`]): The tasks.
        prepare (`Callable`), settings ([`RunSettings`]): See [`Worker`].
        num_workers (`int`, *optional*): Number of actors; by default one for each GPU of the cluster or, without
            GPUs, for each CPU core. On a cluster that grows on demand, more actors make it grow.
    """

    def __init__(self, schedule: Schedule, prepare: Prepare, settings: RunSettings, num_workers: int | None) -> None:
        self.ray, self.schedule = import_ray(), schedule
        resources = self.ray.cluster_resources()
        gpus = int(resources.get("GPU", 0))
        self.num_workers = num_workers or gpus or max(1, int(resources.get("CPU", 1)))
        remote = self.ray.remote(RayWorker).options(num_cpus=1, num_gpus=1 if gpus else 0, max_restarts=0)
        # Put into the object store once, not once for each actor
        prepare = self.ray.put(prepare)
        self._create = lambda: remote.remote(prepare, settings)
        self._starting: dict[Any, Any] = {}  # actors by the reference to their answer
        self._idle: list[Any] = []
        self._busy: dict[Any, tuple[Any, Task]] = {}
        self._num_failed_starts = 0

    def run(self) -> None:
        """Carry out all tasks.

        Raises:
            ValueError: If the pipeline cannot be loaded, or workers die before they are ready.
        """
        for _ in range(self.num_workers):
            self._start_worker()
        try:
            while not self.schedule.is_over:
                while self._idle and (task := self.schedule.next()) is not None:
                    actor = self._idle.pop()
                    self._busy[actor.run.remote(task)] = (actor, task)
                ready, _ = self.ray.wait([*self._starting, *self._busy], num_returns=1)
                for answer in ready:
                    self._take(answer)
        finally:
            for actor in [*self._starting.values(), *self._idle, *(actor for actor, _ in self._busy.values())]:
                self._kill(actor)

    def _start_worker(self) -> None:
        actor = self._create()
        self._starting[actor.start.remote()] = actor

    def _take(self, answer: Any) -> None:
        if answer in self._starting:
            self._take_started(answer)
        else:
            self._take_result(answer)

    def _take_started(self, answer: Any) -> None:
        actor = self._starting.pop(answer)
        try:
            self.ray.get(answer)
        except self.ray.exceptions.RayTaskError as error:
            raise ValueError(f"A worker cannot load the pipeline: {describe(error)}") from error
        except self.ray.exceptions.RayError as error:
            self._num_failed_starts += 1
            if self._num_failed_starts == MAX_FAILED_STARTS:
                raise ValueError(f"{MAX_FAILED_STARTS} workers died while they started: {describe(error)}") from error
            self._replace(actor)
        else:
            self._num_failed_starts = 0
            self._idle.append(actor)

    def _take_result(self, answer: Any) -> None:
        actor, task = self._busy.pop(answer)
        try:
            result = self.ray.get(answer)
        except self.ray.exceptions.RayError as error:
            # Also an error that is not that of a video: after an error of CUDA, a process fails at every further task.
            self.schedule.lose(task, describe(error))
            self._replace(actor)
        else:
            self.schedule.finish(task, result)
            self._idle.append(actor)

    def _replace(self, actor: Any) -> None:
        self._kill(actor)
        self._start_worker()

    def _kill(self, actor: Any) -> None:
        # It may be dead, or the cluster may be gone.
        with contextlib.suppress(self.ray.exceptions.RayError, ValueError):
            self.ray.kill(actor)


def run_on_ray(
    schedule: Schedule, prepare: Prepare, settings: RunSettings, address: str | None, num_workers: int | None
) -> None:
    """Carry out all tasks on a Ray cluster.

    Args:
        schedule ([`Schedule`]), prepare (`Callable`), settings ([`RunSettings`]), num_workers: See [`RayEngine`].
        address (`str`, *optional*): Address of the cluster, or `"local"` for one on this machine, which ends with the
            run. By default the one that `RAY_ADDRESS` names or that runs on this machine, or else `"local"`.

    Raises:
        ValueError: If Ray is not installed, there is no cluster at the address, or the pipeline cannot be loaded.
    """
    ray = import_ray()
    if ray.is_initialized():
        RayEngine(schedule, prepare, settings, num_workers).run()
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        ray.init(address=address, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    except (ConnectionError, ValueError) as error:
        raise ValueError(f"There is no Ray cluster at {address}: {describe(error)}") from error
    try:
        RayEngine(schedule, prepare, settings, num_workers).run()
    finally:
        ray.shutdown()


def describe(error: BaseException) -> str:
    """The cause of an error of Ray, on one line and without the traceback of the worker."""
    cause = getattr(error, "cause", None) or error
    return f"{type(cause).__name__}: {' '.join(str(cause).split())[:500]}"
