"""Cancelled jobs, at any moment, and by another choice."""

import random
import time

import pytest

from job_steps import SECONDS, request, result, wait, wait_for_phase, wait_for_search
from keep_hf.page.jobs.job import Job, JobState, PartKey
from keep_hf.page.progress import Progress
from portraits import write_people


pytest_plugins = ["page_fixtures", "job_fixtures"]


@pytest.mark.slow
def test_50_cancels_at_random_moments(start, tmp_path):
    service = start()
    session = service.open_session("me")
    video = service.add_video(write_people(tmp_path / "short.mp4", 3, num_people=1))
    expected = result(session.restore(request(video))).after.read_bytes()
    began = time.monotonic()
    result(session.restore(request(video, end=0.9)))  # the first one takes longer
    duration, moments = time.monotonic() - began, random.Random(0)
    states = []
    for number in range(50):
        # Another end, so that every job also cuts its part; the frames are the same.
        job = session.restore(request(video, end=1 + number / 1000, people=(1,)))
        time.sleep(moments.uniform(0, duration))
        session.cancel()
        view = job.view()
        assert view.state.is_final
        states.append(view.state)
        stopped = wait(job)
        assert (stopped.state, stopped.share, stopped.result) == (view.state, view.share, view.result)
        assert job.folder.exists() == (view.state is JobState.DONE)
    assert states.count(JobState.CANCELLED) > 25
    assert set(states) <= {JobState.CANCELLED, JobState.DONE}
    assert result(session.restore(request(video))).after.read_bytes() == expected
    service.delete_old(0)
    assert not list((service.folder / "jobs").iterdir())
    assert not list((service.folder / "videos").iterdir())


@pytest.mark.parametrize("phase", ["Cutting the part", "Looking for faces", "Restoring the faces", "Writing the comp"])
def test_cancel_in_every_phase(start, clips, phase):
    service = start()
    session = service.open_session("me")
    video = service.add_video(clips["long"])
    job = session.restore(request(video, end=4.0, people=(1,)))
    wait_for_phase(job, phase)
    session.cancel()
    assert (wait(job).state, job.view().result, job.folder.exists()) == (JobState.CANCELLED, None, False)
    assert job.view().phase.startswith(phase)


def test_an_end_is_final(tmp_path):
    cancelled, failed = (Job("me", request("video"), tmp_path) for _ in range(2))
    cancelled.cancel()
    assert not cancelled.start()
    cancelled.advance(Progress("Working", 0.5))
    cancelled.fail("late")
    view = cancelled.view()
    assert (view.state, view.phase, view.error) == (JobState.CANCELLED, "", "")
    assert failed.start()
    failed.fail("No faces")
    failed.cancel()
    assert (failed.view().state, failed.view().error) == (JobState.FAILED, "No faces")


def test_another_choice_cancels_what_runs(start, clips):
    service = start()
    session = service.open_session("me")
    first, second = service.add_video(clips["long"]), service.add_video(clips["two"])
    session.choose(PartKey(first, 0.0, 4.0))
    old = session.restore(request(first, end=4.0))
    session.choose(PartKey(second, 0.0, SECONDS))
    assert session.view().restoration is None
    assert old.state is JobState.CANCELLED
    found = wait_for_search(session)
    assert len(found.people) == 2  # of the second video
    wait(old)
    assert session.view().search.result is found
    running = session.restore(request(second))
    session.choose(PartKey(second, 0.0, 0.8))  # a trim
    assert session.view().result is None
    assert wait(running).state is JobState.CANCELLED
    running = session.restore(request(second, end=0.8))
    session.choose(None)
    assert wait(running).state is JobState.CANCELLED
    view = session.view()
    assert (view.part, view.search, view.restoration) == (None, None, None)
