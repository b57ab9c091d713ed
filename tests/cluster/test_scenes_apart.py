"""Scenes that are restored apart and joined: the file and the report of one process."""

from dataclasses import replace

import pytest

import keep_hf.cluster.scene
from keep_hf import KeepPipeline, VideoReader, restore_videos
from keep_hf.cluster import worker
from keep_hf.cluster.plan import plan_video
from keep_hf.cluster.restore_videos import only_run
from keep_hf.cluster.scene import SceneReader
from keep_hf.options import RestorationOptions
from many_scenes import save_model, write_scenes


pytestmark = pytest.mark.slow

SAME = ("options", "frames", "scenes", "tracks", "recognized_by", "size", "frame_rate", "damaged_frames", "warnings")


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> str:
    return save_model(tmp_path_factory.mktemp("model"))


@pytest.fixture
def source(tmp_path):
    return write_scenes(tmp_path / "in.mp4", (9, 4, 7))


def restore_whole(model, source, target, **options) -> dict:
    pipe = KeepPipeline.from_pretrained(model)
    pipe.set_progress_bar_config(disable=True)
    return pipe.restore_video(source, target, **options)


@pytest.mark.parametrize(
    "options",
    [
        {"segment_frames": 3},
        {"latency": "low", "faces": "largest", "strength": 1.0, "segment_frames": 3},
        # Not HEVC: with the same frames x265 wrote another file in 1 of 40 runs on a busy machine.
        {"aligned": True},
    ],
)
def test_file_and_report_are_those_of_one_process(model, source, tmp_path, options):
    expected = restore_whole(model, source, tmp_path / "one.mp4", **options)
    many = tmp_path / "many.mp4"
    result = restore_videos([(source, many)], model, engine="local", longest_whole=0, **options)
    assert result.failures == {}
    assert many.read_bytes() == (tmp_path / "one.mp4").read_bytes()
    report = result.reports[many]
    assert {name: report[name] for name in SAME} == {name: expected[name] for name in SAME}
    assert len(report["scenes"]) == 3
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "in.mp4",
        "many.mp4",
        "many.mp4.journal.jsonl",
        "one.mp4",
    ]


def test_a_scene_is_resumed_by_another_worker(model, source, tmp_path, monkeypatch):
    """The first worker fails inside a scene, after a segment of it."""
    restore_whole(model, source, tmp_path / "one.mp4", segment_frames=3)
    whole = keep_hf.cluster.scene.restore_file

    def fail_in_the_last_scene(reader, writer, *arguments):
        for step in whole(reader, writer, *arguments):
            yield step
            if reader.scene.number == 2 and len(writer.segment_paths) == 1:
                raise OSError("gone")

    many = tmp_path / "many.mp4"
    arguments = {"engine": "local", "longest_whole": 0, "segment_frames": 3}
    with monkeypatch.context() as patch:
        patch.setattr(keep_hf.cluster.scene, "restore_file", fail_in_the_last_scene)
        assert restore_videos([(source, many)], model, **arguments).failures == {many: "gone"}
    numbers = []
    restore_scene = worker.restore_scene

    def count(stream, reader, *more):
        num_frames = restore_scene(stream, reader, *more)
        numbers.append((reader.scene.number, num_frames))
        return num_frames

    monkeypatch.setattr(worker, "restore_scene", count)
    restore_videos([(source, many)], model, resume=True, **arguments)
    assert many.read_bytes() == (tmp_path / "one.mp4").read_bytes()
    assert numbers[0][0] == 2
    assert 0 < numbers[0][1] < 7


@pytest.mark.parametrize(("name", "can_seek"), [("in.mp4", True), ("in.mkv", True), ("in.avi", False)])
def test_a_scene_is_read_without_the_frames_before_it(tmp_path, name, can_seek):
    """Also in the middle of a group of pictures, with frames that are stored in another order."""
    source = write_scenes(tmp_path / name, (9, 14, 7), codec="mpeg4" if name == "in.avi" else "libx264")
    scenes = plan_video(source, tmp_path / "out.mp4", RestorationOptions(), longest_whole=0).scenes
    assert [scene.start for scene in scenes] == [0, 9, 23]
    with VideoReader(source) as reader:
        expected = [(frame.pts, frame.image.tobytes()) for frame in reader]
    for scene in scenes:
        assert scene.can_seek == can_seek
        with SceneReader(source, scene, None, False) as reader:
            frames = [(frame.pts, frame.image.tobytes()) for frame in reader.read(2)]
        assert frames == expected[scene.start + 2 : scene.end]


def test_a_scene_that_seeking_changes_is_read_with_the_frames_before_it(model, source, tmp_path, monkeypatch):
    restore_whole(model, source, tmp_path / "one.mp4")
    read = VideoReader.read

    def read_changed(self, start=0, *, deep=False, from_pts=None):
        for frame in read(self, start, deep=deep, from_pts=from_pts):
            yield frame if from_pts is None else replace(frame, image=255 - frame.image)

    monkeypatch.setattr(VideoReader, "read", read_changed)
    restore_videos([(source, tmp_path / "many.mp4")], model, engine="local", longest_whole=0)
    assert (tmp_path / "many.mp4").read_bytes() == (tmp_path / "one.mp4").read_bytes()


def test_short_and_broken_videos(model, source, tmp_path):
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"not a video" * 100)
    expected = restore_whole(model, source, tmp_path / "one.mp4")
    targets = [tmp_path / "results" / name for name in ("broken.mp4", "short.mp4")]
    result = restore_videos(zip([broken, source], targets, strict=True), model, engine="local")
    assert list(result.failures) == targets[:1]
    assert str(broken) in result.failures[targets[0]]
    assert targets[1].read_bytes() == (tmp_path / "one.mp4").read_bytes()
    assert result.reports[targets[1]]["tracks"] == expected["tracks"]
    assert not targets[0].exists()


@pytest.mark.parametrize("options", [{"faces": [0]}, {"person_strength": {1: 0.5}}, {"gain_mode": "official"}, {}])
def test_videos_that_are_not_divided(source, tmp_path, options):
    longest = 0 if options else 20
    plan = plan_video(source, tmp_path / "out.mp4", RestorationOptions(**options), longest_whole=longest)
    assert plan.scenes == []


def test_finished_scenes_of_other_options_are_not_joined(model, source, tmp_path, monkeypatch):
    many = tmp_path / "many.mp4"
    arguments = {"engine": "local", "longest_whole": 0}
    with monkeypatch.context() as patch:
        patch.setattr(worker.Worker, "_join", lambda *_: (_ for _ in ()).throw(OSError("gone")))
        assert restore_videos([(source, many)], model, strength=1.0, **arguments).failures == {many: "gone"}
    result = restore_videos([(source, many)], model, strength=0.5, resume=True, **arguments)
    assert "strength was 1.0 and is 0.5" in result.failures[many]
    assert not many.exists()
    assert restore_videos([(source, many)], model, strength=1.0, resume=True, **arguments).failures == {}


def test_what_another_run_or_program_has_written_is_kept(model, source, tmp_path):
    many, foreign = tmp_path / "many.mp4", tmp_path / "many.mp4.scenes" / "notes.txt"
    foreign.parent.mkdir()
    foreign.write_text("mine")
    with pytest.raises(ValueError, match=r"many.mp4.scenes .* files that this program has not written"):
        restore_videos([(source, many)], model, engine="local")
    assert foreign.read_text() == "mine"
    with only_run(tmp_path / "many.mp4.journal.jsonl"), pytest.raises(ValueError, match="Another run writes"):
        restore_videos([(source, many)], model, engine="local")


def test_two_videos_with_one_target(source, tmp_path):
    with pytest.raises(ValueError, match=r"Several videos would be written to .*out.mp4"):
        restore_videos([(source, tmp_path / "out.mp4")] * 2, engine="local")


def test_no_workers(source, tmp_path):
    with pytest.raises(ValueError, match="num_workers must be 1 or more, got -1"):
        restore_videos([(source, tmp_path / "out.mp4")], num_workers=-1)


def test_unknown_engine(tmp_path):
    with pytest.raises(ValueError, match="engine must be one of ray, local, got 'slurm'"):
        restore_videos([("in.mp4", tmp_path / "out.mp4")], engine="slurm")
