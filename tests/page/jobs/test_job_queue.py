"""The queue: places, and the limits of clients."""

import time
from collections.abc import Callable, Generator, Iterator

import pytest

from job_steps import NUM_FRAMES, request, result, wait
from keep_hf.page.backend import RESTORING
from keep_hf.page.jobs.clients import ClientLimits, Clients
from keep_hf.page.jobs.job import Job, JobState, PartKey
from keep_hf.page.jobs.job_queue import JobQueue
from keep_hf.page.jobs.sessions import Session
from keep_hf.page.progress import Progress
from page_steps import frames
from portraits import FRAME_RATE


pytest_plugins = ["page_fixtures", "job_fixtures"]


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


def test_one_client_reloads_and_one_cancels(start, clips, held_phases):
    service = start()
    sessions = [service.open_session(client) for client in ("reloading", "cancelling")]
    videos = [service.add_video(clips[name]) for name in ("two", "long")]
    held_phases.add(RESTORING)
    kept = sessions[0].restore(request(videos[0]))
    cancelled = sessions[1].restore(request(videos[1], end=4.0))
    assert sessions[1].view().place == 1
    # The first browser goes away, and comes back with the ids only.
    session_id, job_id = sessions[0].id, kept.id
    sessions.pop(0)
    sessions[0].cancel()
    held_phases.clear()
    found = service.find_session(session_id)
    assert found.view().restoration.id == job_id
    assert found.restore(request(videos[0])) is kept  # the same click again
    assert len(frames(result(kept).after)) == NUM_FRAMES
    assert wait(cancelled).state is JobState.CANCELLED
    again = result(sessions[0].restore(request(videos[1], end=2.0)))
    assert len(frames(again.after)) == 2 * FRAME_RATE
    assert found.view().restoration.result.num_frames == NUM_FRAMES
