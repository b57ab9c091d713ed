"""One share for a whole job, and its expected time."""

import time

import pytest

from job_steps import request, result, wait_for_search
from keep_hf.page.jobs.total_progress import Speed, TotalProgress
from keep_hf.page.progress import Progress


pytest_plugins = ["page_fixtures", "job_fixtures"]


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
    result(session.restore(request(video, end=0.5)))  # after the job that measures
    assert service.estimate(beginning) == pytest.approx(service.estimate(whole) * 3 / 4)
