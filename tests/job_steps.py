"""Steps of tests of the jobs of the page, without a browser."""

import time
from typing import Any

import pytest

from keep_hf.page.backend import Backend
from keep_hf.page.jobs import tasks
from keep_hf.page.jobs.face_search import FaceSearch, FoundPeople
from keep_hf.page.jobs.job import Job, JobState, JobView, RestoreRequest
from keep_hf.page.requests import RestorationRequest, RestoredPart
from portraits import FRAME_RATE


NUM_FRAMES = 12
SECONDS = NUM_FRAMES / FRAME_RATE


def request(video: str, end: float = SECONDS, is_preview: bool = False, **options) -> RestoreRequest:
    """A request at full strength: by default, the sharp faces of these videos are left as they are."""
    return RestoreRequest(video, RestorationRequest(0.0, end, strength=1.0, **options), is_preview)


def wait(job: Job) -> JobView:
    assert job.stopped.wait(120)
    return job.view()


def wait_for_phase(job: Job, phase: str) -> None:
    deadline = time.monotonic() + 120
    while not job.view().phase.startswith(phase) and time.monotonic() < deadline:
        time.sleep(0.001)
    assert job.view().phase.startswith(phase), job.view()


def result(job: Job) -> RestoredPart:
    view = wait(job)
    assert view.state is JobState.DONE, view.error
    assert isinstance(view.result, RestoredPart)
    return view.result


def wait_for_search(session) -> FoundPeople:
    deadline = time.monotonic() + 120
    while not session.view().search.state.is_final and time.monotonic() < deadline:
        time.sleep(0.01)
    assert session.view().search.state is JobState.DONE
    return session.view().search.result


def count_work(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A list that gets an entry for every part that is cut, and for every search in samples or in all frames."""
    calls: list[str] = []
    for module, name in ((tasks, "cut_clip"), (FaceSearch, "find"), (Backend, "track_part")):
        real = getattr(module, name)

        def counted(*arguments: Any, real=real, name=name) -> Any:
            calls.append(name)
            return real(*arguments)

        monkeypatch.setattr(module, name, counted)
    return calls
