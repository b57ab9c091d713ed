"""The simulation of many workers: the sums of the work, its bounds, and the rates of a real journal."""

import pytest

from benchmarks.scale_simulation import Rates, draw_plan, simulate
from keep_hf import restore_videos
from many_scenes import save_model, write_scenes


RATES = Rates(plan=2.0, restore=100.0, join=0.5)


def plan(longest: float = 20.0, seed: int = 0):
    return draw_plan(120, 4.0, 0.9, longest, frame_rate=25.0, seed=seed)


def test_scenes_fill_the_video_and_one_is_the_longest():
    scenes = plan().scenes
    assert [scene.start for scene in scenes[1:]] == [scene.end for scene in scenes[:-1]]
    assert scenes[0].start == 0
    assert scenes[-1].end == 120 * 25
    assert max(map(len, scenes)) == pytest.approx(20 * 25, abs=1)


def test_one_worker_needs_the_time_of_all_tasks():
    run = simulate([plan()], 1, RATES)
    assert run.seconds == pytest.approx(run.work)
    assert run.work == pytest.approx(120 * 25 * RATES.all / 1000)


def test_many_workers_need_the_time_of_the_tasks_that_follow_each_other():
    run = simulate([plan()], 1000, RATES)
    assert run.seconds == pytest.approx(3000 * (RATES.plan + RATES.join) / 1000 + run.longest)


def test_several_videos_share_the_workers():
    run = simulate([plan(seed=seed) for seed in range(20)], 8, RATES)
    assert run.work == pytest.approx(20 * 3000 * RATES.all / 1000)
    assert run.work / 8 <= run.seconds < 1.1 * run.work / 8


def test_rates_are_those_of_a_real_run(tmp_path):
    video = write_scenes(tmp_path / "in.mp4", lengths=(6, 5))
    model = save_model(tmp_path / "model")
    restore_videos([(video, tmp_path / "out.mp4")], model, engine="local", longest_whole=1)
    rates = Rates.read(tmp_path / "out.mp4.journal.jsonl")
    assert 0 < rates.plan < rates.restore
    assert rates.join > 0


def test_a_journal_without_scenes_has_no_rates(tmp_path):
    journal = tmp_path / "journal.jsonl"
    journal.write_text("")
    with pytest.raises(ValueError, match="no video was divided"):
        Rates.read(journal)
