"""The order of tasks, what is done again after a loss, and what is not done again after a new start."""

import json
from pathlib import Path

import pytest

from keep_hf.cluster.journal import Journal
from keep_hf.cluster.plan import Scene, VideoPlan
from keep_hf.cluster.schedule import MAX_LOST, Schedule
from keep_hf.cluster.tasks import JOIN, PLAN, SCENE, WHOLE, Task, TaskResult, Video
from keep_hf.video.part_folder import describe_source


REPORT = {"frames": 1, "warnings": []}


@pytest.fixture
def videos(tmp_path) -> list[Video]:
    for name in ("a", "b"):
        (tmp_path / f"{name}.mp4").write_bytes(name.encode())
    return [Video(tmp_path / f"{name}.mp4", tmp_path / f"{name}_out.mp4") for name in ("a", "b")]


def make_schedule(videos: list[Video], resume: bool = False, lead: int = 1) -> Schedule:
    return Schedule(videos, Journal(videos[0].target.with_name("journal.jsonl"), resume), lead)


def plan(video: Video, *cuts: int, num_frames: int = 100) -> TaskResult:
    borders = [*cuts, num_frames]
    scenes = [Scene(number, *borders[number : number + 2], 0, 0, True) for number in range(len(cuts))]
    return TaskResult("w", 1.0, plan=VideoPlan(describe_source(video.source), scenes, num_frames, {}))


def done(schedule: Schedule, task: Task | None, error: str | None = None) -> None:
    """Carry out a task, apart from its work."""
    assert task is not None
    if task.kind in (JOIN, WHOLE) and error is None:
        task.video.target.write_bytes(b"restored")
    report = REPORT if task.kind in (JOIN, WHOLE) else None
    schedule.finish(task, TaskResult("w", 1.0, report=report, error=error))


def test_scenes_are_restored_the_longest_first_and_joined_at_the_end(videos):
    schedule = make_schedule(videos[:1])
    task = schedule.next()
    assert task == Task(PLAN, videos[0])
    assert schedule.next() is None
    assert not schedule.is_over
    schedule.finish(task, plan(videos[0], 0, 10, 70))
    scenes = [schedule.next() for _ in range(3)]
    assert [(task.kind, task.scene.number, len(task.scene)) for task in scenes] == [
        (SCENE, 1, 60),
        (SCENE, 2, 30),
        (SCENE, 0, 10),
    ]
    assert schedule.next() is None
    for scene in scenes:
        done(schedule, scene)
    task = schedule.next()
    assert task.kind == JOIN
    assert [scene.start for scene in task.plan.scenes] == [0, 10, 70]
    videos[0].folder.mkdir()
    done(schedule, task)
    assert schedule.is_over
    assert schedule.reports == {videos[0]: REPORT}
    assert not videos[0].folder.exists()


@pytest.mark.parametrize(("lead", "kinds"), [(2, [SCENE, PLAN, SCENE]), (9, [PLAN, SCENE, SCENE])])
def test_videos_are_planned_as_fast_as_scenes_are_restored(videos, lead, kinds):
    schedule = make_schedule(videos, lead=lead)
    schedule.finish(schedule.next(), plan(videos[0], 0, 50))
    assert [schedule.next().kind for _ in range(3)] == kinds


def test_a_short_video_is_one_task(videos):
    schedule = make_schedule(videos[:1])
    schedule.finish(schedule.next(), plan(videos[0]))
    task = schedule.next()
    assert task.kind == WHOLE
    done(schedule, task)
    assert schedule.is_over
    assert schedule.reports == {videos[0]: REPORT}


def test_a_broken_video_does_not_stop_the_others(videos):
    schedule = make_schedule(videos, lead=9)
    done(schedule, schedule.next(), error="it is empty")
    schedule.finish(schedule.next(), plan(videos[1], 0, 50))
    done(schedule, schedule.next(), error="frame 7 cannot be decoded")
    assert schedule.next() is None, "the other scenes of a broken video are not restored"
    assert schedule.is_over
    assert schedule.failures == {videos[0]: "it is empty", videos[1]: "frame 7 cannot be decoded"}


def test_a_task_whose_worker_is_lost_is_done_again_but_not_for_ever(videos):
    schedule = make_schedule(videos[:1])
    schedule.finish(schedule.next(), plan(videos[0], 0, 50))
    for attempt in range(MAX_LOST):
        tasks = [task for task in (schedule.next(), schedule.next()) if task]
        assert tasks[0].attempt == attempt
        assert tasks[0].scene.number == 0
        schedule.lose(tasks[0], "killed")
        for task in tasks[1:]:
            done(schedule, task)
    assert schedule.is_over
    assert "3 workers were lost with it, at last: killed" in schedule.failures[videos[0]]


def test_another_driver_repeats_nothing(videos):
    schedule = make_schedule(videos, lead=9)
    for video in videos:
        schedule.finish(schedule.next(), plan(video, 0, 60))
    for _ in range(4):
        done(schedule, schedule.next())
    done(schedule, schedule.next())  # joins one video; the other one is not joined
    with open(schedule.journal.path, "ab") as file:
        file.write(b'{"event": "finis')  # the driver was killed here

    schedule = make_schedule(videos, resume=True)
    assert list(schedule.reports) == videos[:1]
    task = schedule.next()
    assert (task.kind, task.video) == (JOIN, videos[1])
    done(schedule, task)
    assert schedule.is_over
    lines = schedule.journal.path.read_text().splitlines()
    events = [json.loads(line)["event"] for line in lines]
    assert [events.count(event) for event in ("planned", "restored", "finished")] == [2, 4, 2]


def test_a_result_that_was_deleted_is_restored_again(videos):
    schedule = make_schedule(videos[:1])
    schedule.finish(schedule.next(), plan(videos[0], 0, 60))
    for _ in range(3):
        done(schedule, schedule.next())
    assert list(schedule.reports) == videos[:1]
    videos[0].target.unlink()  # the folder of its scenes was removed when it was finished

    schedule = make_schedule(videos[:1], resume=True)
    assert [schedule.next().kind for _ in range(2)] == [SCENE, SCENE]


def test_a_changed_source_is_not_resumed(videos):
    schedule = make_schedule(videos)
    schedule.finish(schedule.next(), plan(videos[0], 0, 60))
    videos[0].source.write_bytes(b"another video")
    with pytest.raises(ValueError, match=r"a\.mp4 has changed since the run that is to be resumed"):
        make_schedule(videos, resume=True)


def test_the_result_of_a_source_that_has_changed_is_not_taken(videos):
    schedule = make_schedule(videos[:1])
    schedule.finish(schedule.next(), plan(videos[0]))
    done(schedule, schedule.next())
    assert list(schedule.reports) == videos[:1]
    videos[0].source.write_bytes(b"another video")
    with pytest.raises(ValueError, match=r"a\.mp4 has changed since the run that is to be resumed"):
        make_schedule(videos[:1], resume=True)


def test_without_resume_all_starts_again(videos):
    schedule = make_schedule(videos)
    schedule.finish(schedule.next(), plan(videos[0], 0, 60))
    (videos[0].folder / "00000.mp4.part").mkdir(parents=True)
    schedule = make_schedule(videos)
    assert not videos[0].folder.exists()
    assert schedule.next().kind == PLAN
    assert Path(schedule.journal.path).read_bytes() == b""


def test_a_line_that_was_cut_off_is_lost_and_no_other(videos):
    schedule = make_schedule(videos[:1])
    schedule.finish(schedule.next(), plan(videos[0], 0, 50))
    done(schedule, schedule.next())
    journal = videos[0].target.with_name("journal.jsonl")
    journal.write_bytes(journal.read_bytes()[:-9])
    again = make_schedule(videos[:1], resume=True)
    first, second = again.next(), again.next()
    assert (first.scene.number, second.scene.number) == (0, 1)
    done(again, first)
    (left,) = [make_schedule(videos[:1], resume=True).next()]
    assert left.scene.number == 1
