"""Restorations as jobs: what a click needs, and what is computed once."""

import json
from fractions import Fraction

import av
import numpy as np

from job_steps import SECONDS, count_work, request, result, wait, wait_for_search
from keep_hf.page.interface.rendering import result_mark
from keep_hf.page.jobs.job import JobState, PartKey, RestoreRequest
from keep_hf.page.requests import RestorationRequest
from page_steps import changes, frames
from portraits import FRAME_RATE, SIDE


pytest_plugins = ["page_fixtures", "job_fixtures"]


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
        changed = changes(part.before, part.after)
        left_first = int(person.boxes[0, 0] > SIDE)
        assert changed[left_first] > 10, number
        assert changed[1 - left_first] < 4
    job = session.restore(request(video, people=(7,)))
    assert wait(job).error == "There is no person 7 in this part, in which 2 were found."


def test_people_have_strengths_of_their_own(start, clips):
    """Both are restored, one of them not at all; their numbers become those of the tracks."""
    service = start()
    session = service.open_session("me")
    video = service.add_video(clips["two"])
    session.choose(request(video).chosen_part)
    for person in wait_for_search(session).people:
        part = result(session.restore(request(video, person_strength={person.number: 0})))
        assert part.num_people == 2
        left_first = int(person.boxes[0, 0] > SIDE)
        changed = changes(part.before, part.after)
        assert changed[left_first] < 4
        assert changed[1 - left_first] > 10
        report = json.loads(part.report.read_text())
        assert sorted(track["strength"]["weight"] for track in report["tracks"]) == [0, 1]
        (strength,) = report["options"]["person_strength"].values()
        assert strength == 0
    job = session.restore(request(video, people=(1,), person_strength={2: 0}))
    assert wait(job).error.startswith("person_strength must name people of faces=(1,)")


def test_every_part_is_cut_once_and_searched_once(start, clips, monkeypatch):
    calls = count_work(monkeypatch)
    service = start()
    session = service.open_session("me")
    video = service.add_video(clips["two"])
    for options in ({}, {"people": (1,)}, {"people": (2,)}, {"quality": "best"}, {"people": (1,), "is_preview": True}):
        result(session.restore(request(video, **options)))
    # Three seconds of preview are the whole part.
    assert sorted(calls) == ["cut_clip", "find", "track_part"]
    assert service.add_video(clips["two"]) == video


def test_a_result_stays_until_another_one_of_its_video(start, clips):
    service = start()
    session = service.open_session("me")
    video, other = service.add_video(clips["two"]), service.add_video(clips["one"])
    whole = session.restore(request(video))
    result(whole)
    session.choose(PartKey(video, 0.0, 0.6))  # a trim
    view = session.view()
    assert (view.result.id, view.restoration) == (whole.id, None)
    assert result_mark(view) == "from 0 to 1.2 s: not the part that is selected now"
    trimmed = session.restore(request(video, end=0.6))
    session.cancel()
    assert session.view().result.id == whole.id, "a cancelled restoration has replaced a result"
    assert wait(trimmed).state is JobState.CANCELLED
    session.choose(PartKey(video, 0.0, SECONDS))  # back again: nothing is left to do
    assert result_mark(session.view()) == ""
    assert session.restore(request(video)) is whole

    better = session.restore(request(video, quality="best"))
    session.cancel()
    assert wait(better).state is JobState.CANCELLED
    assert session.view().result.id == whole.id
    assert result_mark(session.view()) == "of an earlier restoration"
    assert session.restore(request(video)) is whole, "a result that is kept was computed again"
    assert (session.view().restoration.id, result_mark(session.view())) == (whole.id, "")
    replaced = session.restore(request(video, quality="best"))
    assert session.restore(request(video)) is whole
    assert wait(replaced).state is JobState.CANCELLED
    session.choose(PartKey(video, 0.0, 0.6))
    trimmed = session.restore(request(video, end=0.6))
    result(trimmed)
    assert (session.view().result.id, result_mark(session.view())) == (trimmed.id, "")
    session.choose(PartKey(other, 0.0, 0.6))
    assert session.view().result is None


def test_a_preview_is_the_beginning(start, clips):
    service = start()
    session = service.open_session("me")
    video = service.add_video(clips["long"])
    part = result(session.restore(request(video, end=4.0, is_preview=True, people=(1,))))
    assert part.num_frames == len(frames(part.after)) == 3 * FRAME_RATE


def test_a_person_in_the_middle_of_a_recording(start, clips, tmp_path):
    """Recordings of browsers state neither length nor frame rate; the search and the restoration use the same one."""
    recording = tmp_path / "recording.webm"
    with av.open(recording, "w", options={"live": "1"}) as container:
        images = frames(clips["two"]).astype(np.uint8)
        stream = container.add_stream("libvpx-vp9", rate=1000)
        stream.height, stream.width = images.shape[1:3]
        stream.time_base = Fraction(1, 1000)
        for index, image in enumerate(images):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts, frame.time_base = round(1000 * index / FRAME_RATE), Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    service = start()
    video = service.add_video(recording)
    assert abs(service.describe(video).frame_rate - FRAME_RATE) < 1
    restoration = RestorationRequest(0.5, SECONDS, (1,), strength=1.0)
    part = result(service.open_session("me").restore(RestoreRequest(video, restoration)))
    assert part.num_people == 1
    changed = changes(part.before, part.after)
    assert max(changed) > 10
    assert min(changed) < 6
