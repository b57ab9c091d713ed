"""The search for people in samples of the frames."""

import pickle
from collections.abc import Callable

import pytest

from job_steps import SECONDS, result, wait, wait_for_search
from keep_hf.page.clips import probe
from keep_hf.page.jobs.face_search import FaceSearch
from keep_hf.page.jobs.job import JobState, PartKey, RestoreRequest, SearchRequest
from keep_hf.page.limits import Limits
from keep_hf.page.requests import RestorationRequest
from keep_hf.page.slices import gpu_seconds
from media import write_clip
from page_steps import changes
from portraits import SIDE


pytest_plugins = ["page_fixtures", "job_fixtures"]


def test_the_search_samples_frames(start, clips):
    service = start()
    session = service.open_session("me")
    video = service.add_video(clips["two"])
    session.choose(PartKey(video, 0.2, SECONDS))
    found = wait_for_search(session)
    assert [person.number for person in found.people] == [1, 2]
    for person in found.people:
        assert person.frames.tolist() == [0, 2, 4, 6, 8]  # 5 of 10 frames per second, counted from the part
        assert (person.first, person.last) == pytest.approx((0, 0.9))
        assert person.portrait.shape == (160, 160, 3)
        assert person.portrait.std() > 10
    assert (found.first_frame, found.num_frames) == (2, 10)


def test_a_choice_survives_a_trim(start, clips):
    """Also the trim to a part that starts between two sampled frames, and a click before that part was searched."""
    service = start()
    session = service.open_session("me")
    video = service.add_video(clips["two"])
    whole, part = PartKey(video, 0.0, SECONDS), PartKey(video, 0.3, SECONDS)
    session.choose(whole)
    wait_for_search(session)
    session.choose_people(whole, {2: 0.5})
    job = session.restore(
        RestoreRequest(video, RestorationRequest(0.3, SECONDS, (2,), strength=1.0), numbered_in=whole)
    )
    restored = result(job)
    changed = changes(restored.before, restored.after)
    kept = wait_for_search(session).people[0]
    assert session.view().chosen == {2: 0.5}
    assert changed[int(kept.boxes[0, 0] > SIDE)] < 4
    assert max(changed) > 10
    session.choose_people(whole, {1: None, 2: None})  # a click on what is not displayed any more
    assert session.view().chosen == {2: 0.5}
    session.choose_people(part, {1: "auto"})
    session.choose(whole)
    wait_for_search(session)
    assert session.view().chosen == {1: "auto"}
    session.choose_people(whole, {1: None, 2: None})
    assert session.view().chosen == {1: None, 2: None}


def test_a_search_without_faces(start, tmp_path):
    service = start()
    video = service.add_video(write_clip(tmp_path / "empty.mp4", num_frames=12))
    job = service.submit("me", SearchRequest(PartKey(video, 0.0, 1.0)))
    assert wait(job).state is JobState.FAILED
    assert "No faces found in this part" in job.view().error


def test_gpu_time_is_requested_for_the_samples(pipe, clips):
    requested = []

    def on_gpu(function: Callable, duration: Callable) -> Callable:
        """Arguments and results pass to another process and back, as with `spaces.GPU`."""

        def on_device(*arguments):
            requested.append(duration(*arguments))
            for step in function(*pickle.loads(pickle.dumps(arguments))):
                yield pickle.loads(pickle.dumps(step))

        return on_device

    steps = FaceSearch(pipe, Limits(), on_gpu).find(clips["long"], probe(clips["long"]), 0.0, 4.0)
    with pytest.raises(StopIteration) as end:
        while True:
            next(steps)
    assert len(end.value.value.people) == 1
    assert requested == [gpu_seconds(20)]  # 5 of 10 frames per second
