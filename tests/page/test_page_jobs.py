"""The jobs of the page, without a browser: the real backend with small networks."""

import os
import pickle
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Iterator
from pathlib import Path

import numpy as np
import pytest

from conftest import make_components
from keep_hf import KeepPipeline, VideoReader
from keep_hf.page.jobs import tasks, work_folder
from keep_hf.page.jobs.clients import ClientLimits, Clients
from keep_hf.page.jobs.face_search import FaceSearch, FoundPeople
from keep_hf.page.jobs.job import Job, JobState, JobView, PartKey, RestoreRequest
from keep_hf.page.jobs.job_queue import JobQueue
from keep_hf.page.jobs.service import JobService
from keep_hf.page.jobs.sessions import Session
from keep_hf.page.jobs.total_progress import Speed, TotalProgress
from keep_hf.page.limits import Limits
from keep_hf.page.progress import Progress
from keep_hf.page.requests import RestorationRequest, RestoredPart
from keep_hf.page.slices import gpu_seconds
from media import write_clip
from portraits import FRAME_RATE, SIDE, write_people


NUM_FRAMES = 12
SECONDS = NUM_FRAMES / FRAME_RATE


@pytest.fixture(scope="module")
def pipe() -> KeepPipeline:
    """Small untrained networks, which change a face strongly, and the detector of keep-tiny."""
    detector = KeepPipeline.from_pretrained("keep-tiny").detector
    return KeepPipeline(**make_components(), detector=detector, gain_window=4)


@pytest.fixture(scope="module")
def clips(tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("clips")
    return {
        "two": write_people(folder / "two.mp4", NUM_FRAMES),
        "one": write_people(folder / "one.mp4", NUM_FRAMES, num_people=1),
        "long": write_people(folder / "long.mp4", 40, num_people=1),
    }


@pytest.fixture
def start(pipe, tmp_path) -> Iterator[Callable[..., JobService]]:
    services = []

    def start(**options) -> JobService:
        services.append(service := JobService(pipe, str, parent=tmp_path / "work", **options))
        return service

    yield start
    for service in services:
        service.close()
    assert not list((tmp_path / "work").glob("*"))  # nothing is left on the disk


def request(video: str, end: float = SECONDS, is_preview: bool = False, **options) -> RestoreRequest:
    """A request at full strength: by default, the sharp faces of these videos are left as they are."""
    return RestoreRequest(video, RestorationRequest(0.0, end, strength=1.0, **options), is_preview)


def wait(job: Job) -> JobView:
    assert job.stopped.wait(120)
    return job.view()


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


def frames(path: Path) -> np.ndarray:
    with VideoReader(path) as reader:
        return np.stack([frame.image for frame in reader]).astype(int)


def changes(part: RestoredPart) -> list[float]:
    """Mean absolute change at the faces of the left and the right person, in levels of 255."""
    difference = np.abs(frames(part.after) - frames(part.before)).mean(axis=(0, 1, 3))
    return [difference[number * SIDE + 50 : number * SIDE + SIDE - 50].mean() for number in range(2)]


# The search


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
    session.choose_people(whole, [2])
    job = session.restore(
        RestoreRequest(video, RestorationRequest(0.3, SECONDS, (2,), strength=1.0), numbered_in=whole)
    )
    changed = changes(result(job))
    kept = wait_for_search(session).people[0]
    assert session.view().chosen == (2,)
    assert changed[int(kept.boxes[0, 0] > SIDE)] < 4
    assert max(changed) > 10
    session.choose_people(whole, [1, 2])  # a click on what is not displayed any more
    assert session.view().chosen == (2,)
    session.choose_people(part, [1])
    session.choose(whole)
    wait_for_search(session)
    assert session.view().chosen == (1,)


def test_a_search_without_faces(start, tmp_path):
    service = start()
    session = service.open_session("me")
    video = service.add_video(write_clip(tmp_path / "empty.mp4", num_frames=12))
    session.choose(PartKey(video, 0.0, 1.0))
    job = service.find_job(session.view().search.id)
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

    steps = FaceSearch(pipe, Limits(), on_gpu).find(clips["long"], 0.0, 4.0)
    with pytest.raises(StopIteration) as end:
        while True:
            next(steps)
    assert len(end.value.value.people) == 1
    assert requested == [gpu_seconds(20)]  # 5 of 10 frames per second


# Restoration


def test_a_click_needs_no_finished_search(start, clips):
    """The choice of people is in the click, and is mapped to the tracks of all frames."""
    service = start()
    session = service.open_session("me")
    video = service.add_video(clips["two"])
    whole = result(session.restore(request(video)))
    assert whole.num_people == 2
    people = wait_for_search(session).people
    for number, person in enumerate(people):
        part = result(session.restore(request(video, people=(person.number,))))
        assert part.num_people == 1
        changed = changes(part)
        left_first = int(person.boxes[0, 0] > SIDE)
        assert changed[left_first] > 10, number
        assert changed[1 - left_first] < 4
    job = session.restore(request(video, people=(7,)))
    assert wait(job).error == "There is no person 7 in this part, in which 2 were found."


def test_every_part_is_cut_once_and_searched_once(start, clips, monkeypatch):
    calls = []
    for module, name in ((tasks, "cut_clip"), (FaceSearch, "find"), (tasks.Backend, "track_part")):
        real = getattr(module, name)

        def counted(*arguments, real=real, name=name):
            calls.append(name)
            return real(*arguments)

        monkeypatch.setattr(module, name, counted)
    service = start()
    session = service.open_session("me")
    video = service.add_video(clips["two"])
    for options in ({}, {"people": (1,)}, {"people": (2,)}, {"quality": "best"}, {"people": (1,), "is_preview": True}):
        result(session.restore(request(video, **options)))
    # Three seconds of preview are the whole part.
    assert sorted(calls) == ["cut_clip", "find", "track_part"]
    assert service.add_video(clips["two"]) == video


def test_a_preview_is_the_beginning(start, clips):
    service = start()
    session = service.open_session("me")
    video = service.add_video(clips["long"])
    part = result(session.restore(request(video, end=4.0, is_preview=True, people=(1,))))
    assert part.num_frames == len(frames(part.after)) == 3 * FRAME_RATE


def test_progress_is_one_number(start, clips):
    service = start()
    session = service.open_session("me")
    video = service.add_video(clips["two"])
    job = session.restore(request(video, people=(1,)))
    views = []
    while not views or not views[-1].state.is_final:
        views.append(job.view())
        time.sleep(0.002)
    shares = [view.share for view in views]
    assert shares == sorted(shares)
    assert shares[-1] == 1
    assert len(set(shares)) > 5
    phases = list(dict.fromkeys(view.phase for view in views if view.phase))
    assert phases.index("Looking for faces") < phases.index("Restoring the faces")


def test_a_share_never_decreases():
    total = TotalProgress({"Cutting the part": 10.0, "Looking for faces": 10.0}, Speed())
    total.advance(Progress("Looking for faces", 0.5))
    assert total.share == pytest.approx(2 / 3)
    total.advance(Progress("Looking for faces", 0.0))
    assert (total.share, total.seconds_left()) == (pytest.approx(2 / 3), None)
    total.started -= 10
    assert total.seconds_left() == pytest.approx(5, abs=0.1)


def test_the_expected_time_is_that_of_this_machine():
    speed = Speed()
    work = {"Looking for faces": 100.0, "Restoring the faces": 200.0}
    assert speed.expect(work) is None
    speed.learn("Restoring the faces", 10.0, 9.0)
    assert speed.expect(work) == pytest.approx({"Looking for faces": 10.0, "Restoring the faces": 180.0})
    speed.learn("Restoring the faces", 10.0, 3.0)  # faster than the first time
    speed.learn("Looking for faces", 10.0, 3.0)
    assert speed.expect(work) == pytest.approx({"Looking for faces": 30.0, "Restoring the faces": 120.0})
    total = TotalProgress(work, speed)
    assert total.seconds_left() == pytest.approx(150)  # before anything is done
    total.started -= 50
    total.advance(Progress("Restoring the faces", 0.25))  # 60 of 150 seconds were expected
    assert total.share == pytest.approx(0.4)
    assert total.seconds_left() == pytest.approx(0.6 * (0.4 * 125 + 0.6 * 150), abs=0.1)


def test_the_estimate_of_a_job(start, clips):
    service = start()
    video = service.add_video(clips["long"])
    whole, beginning = request(video, end=4.0), request(video, end=4.0, is_preview=True)
    assert service.estimate(whole) is None
    service.measure_speed(clips["one"], 0.4)
    session = service.open_session("me")
    session.choose(whole.chosen_part)
    wait_for_search(session)
    job = session.restore(request(video, end=0.5))
    began = time.monotonic()
    result(job)
    took = time.monotonic() - began
    estimate = service.estimate(whole)
    assert estimate > took / 10  # of a job with eight times as many frames
    assert service.estimate(beginning) == pytest.approx(estimate * 3 / 4)


# Cancelling


@pytest.mark.slow
def test_50_cancels_at_random_moments(start, tmp_path):
    service = start()
    session = service.open_session("me")
    video = service.add_video(write_people(tmp_path / "short.mp4", 6, num_people=1))
    began = time.monotonic()
    expected = result(session.restore(request(video))).after.read_bytes()
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
    deadline = time.monotonic() + 120
    while not job.view().phase.startswith(phase) and time.monotonic() < deadline:
        time.sleep(0.001)
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
    old = [service.find_job(session.view().search.id), session.restore(request(first, end=4.0))]
    session.choose(PartKey(second, 0.0, SECONDS))
    assert (session.view().number, session.view().restoration) == (2, None)
    assert old[1].state is JobState.CANCELLED
    found = wait_for_search(session)
    assert len(found.people) == 2  # of the second video
    for job in old:
        wait(job)
    assert session.view().search.result is found
    running = session.restore(request(second))
    session.choose(PartKey(second, 0.0, 0.8))  # a trim
    assert wait(running).state is JobState.CANCELLED
    running = session.restore(request(second, end=0.8))
    session.choose(None)
    assert wait(running).state is JobState.CANCELLED
    view = session.view()
    assert (view.number, view.part, view.search, view.restoration) == (4, None, None, None)


# Several clients


def test_one_client_reloads_and_one_cancels(start, clips):
    service = start()
    sessions = [service.open_session(client) for client in ("reloading", "cancelling")]
    videos = [service.add_video(clips[name]) for name in ("two", "long")]
    kept = sessions[0].restore(request(videos[0]))
    cancelled = sessions[1].restore(request(videos[1], end=4.0))
    assert sessions[1].view().place in (0, 1)  # the other one may have finished
    # The first browser goes away, and comes back with the ids only.
    session_id, job_id = sessions[0].id, kept.id
    sessions.pop(0)
    sessions[0].cancel()
    found = service.find_session(session_id)
    assert found.view().restoration.id == job_id
    assert found.restore(request(videos[0])) is kept  # the same click again
    assert len(frames(result(service.find_job(job_id)).after)) == NUM_FRAMES
    assert wait(cancelled).state is JobState.CANCELLED
    again = result(sessions[0].restore(request(videos[1], end=2.0)))
    assert len(frames(again.after)) == 2 * FRAME_RATE
    assert found.view().restoration.result.num_frames == NUM_FRAMES


@pytest.fixture
def make_queue(tmp_path) -> Iterator[Callable[[Clients], JobQueue]]:
    """Queues whose jobs run until they are cancelled."""
    queues = []

    def work(job: Job) -> Generator[Progress, None, None]:
        while True:
            time.sleep(0.01)
            yield Progress("Working")

    def make_queue(clients: Clients) -> JobQueue:
        queues.append(queue := JobQueue(work, tmp_path, clients, str))
        return queue

    yield make_queue
    for queue in queues:
        queue.close()


def test_the_place_in_the_queue(make_queue):
    queue = make_queue(Clients(ClientLimits(), lambda: 0))
    sessions = [Session(str(number), queue) for number in range(3)]
    jobs = [session.restore(request("video")) for session in sessions]
    assert [session.view().place for session in sessions[1:]] == [1, 2]
    assert jobs[2].view().state is JobState.WAITING
    sessions[1].cancel()
    assert jobs[1].stopped.is_set()  # a job that waits ends at once
    assert sessions[2].view().place == 1
    sessions[0].cancel()
    assert wait(jobs[0]).state is JobState.CANCELLED
    assert sessions[2].view().place == 0


def test_limits_of_clients(make_queue):
    used = 0
    clients = Clients(ClientLimits(places=2, total_places=3, megabytes=5, total_megabytes=8), lambda: used)
    clients.take_upload("a", 4_000_000)
    with pytest.raises(ValueError, match="You have uploaded 4 MB within 60 minutes, and the limit is 5 MB"):
        clients.take_upload("a", 1_400_000)
    clients.take_upload("a", 1_000_000)

    queue = make_queue(clients)
    session = Session("a", queue)
    session.restore(request("video"))  # and a search
    with pytest.raises(ValueError, match="You already have 2 requests in the queue"):
        Session("a", queue).restore(request("video"))
    Session("b", queue).choose(PartKey("video", 0.0, 4.0))
    with pytest.raises(ValueError, match="3 requests are waiting"):
        Session("c", queue).choose(PartKey("video", 0.0, 4.0))
    session.cancel()  # frees both places
    Session("c", queue).choose(PartKey("video", 0.0, 4.0))

    used = 8_000_000
    with pytest.raises(ValueError, match="The disk of this machine is full"):
        clients.take_upload("c", 1)
    used += 1
    with pytest.raises(ValueError, match="The disk of this machine is full"):
        Session("d", queue).choose(PartKey("video", 0.0, 4.0))
    with pytest.raises(ValueError, match="limit of places must be positive, got 0"):
        ClientLimits(places=0)


# Left-overs


def test_results_are_kept_for_a_time(start, clips):
    service = start(client_limits=ClientLimits(seconds=2), seconds_between=0.1)
    session = service.open_session("me")
    video = service.add_video(clips["one"])
    job = session.restore(request(video))
    part = result(job)
    assert service.find_job(job.id).view().result.after.is_file()
    deadline = time.monotonic() + 120
    while list((service.folder / "videos").iterdir()) and time.monotonic() < deadline:
        time.sleep(0.1)
    service.delete_old(2)
    assert not part.after.exists()
    assert session.view().restoration is None
    assert session.view().is_expired
    with pytest.raises(ValueError, match="no such request any more"):
        service.find_job(job.id)
    with pytest.raises(ValueError, match="no such session any more"):
        service.find_session(session.id)
    late = service.open_session("me").restore(request(video))
    assert "The video was deleted" in wait(late).error


SCRIPT = """
import runpy, sys, time
from pathlib import Path
work = runpy.run_path(sys.argv[1])["WorkFolder"](Path(sys.argv[2]))  # without the imports of the page, for speed
(work.path / "upload.mp4").write_bytes(bytes(1000))
print(work.path, flush=True)
time.sleep(600)
"""


def test_a_killed_process_leaves_nothing_for_long(start, tmp_path):
    work = tmp_path / "work"
    command = [sys.executable, "-c", SCRIPT, work_folder.__file__, str(work)]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    folders = [Path(process.stdout.readline().strip()) for process in processes]
    try:
        os.kill(processes[0].pid, signal.SIGKILL)
        processes[0].wait()
        service = start()
        assert not folders[0].exists()
        assert (folders[1] / "upload.mp4").is_file()  # its process runs
        assert service.folder.is_dir()
    finally:
        for process in processes:
            process.kill()
            process.wait()
            process.stdout.close()
    start()
    assert not folders[1].exists()
    assert service.folder.is_dir()
