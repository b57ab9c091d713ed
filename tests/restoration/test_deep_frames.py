"""Restoration of videos with more than 8 bits per colour: faces are restored, everything else stays exactly equal."""

from fractions import Fraction

import numpy as np
import pytest
import torch

from conftest import SIZE, KnownFaces
from deep_media import BT709, BT2020, HDR10, HLG, PQ, decode, inspect, smooth_planes, write_deep
from keep_hf import DISFlow, KeepPipeline, KeepVQModel
from keep_hf.faces.follower import FollowedFrame
from keep_hf.restoration.compositor import FacePaste
from keep_hf.restoration.deep_frames import restore_deep
from keep_hf.restoration.face_restorer import RestoredFrame
from keep_hf.video.colour import Colour
from keep_hf.video.deep.deep_format import DeepFormat
from keep_hf.video.deep.deep_image import Box, DeepImage, deep_image
from keep_hf.video.reader import VideoReader
from keep_hf.video.writer import VideoWriter
from media import packets, times
from restored import ONE, TWO


pytestmark = pytest.mark.slow

WIDTH, HEIGHT = 168, 112
CLIP = [smooth_planes(4 * index, WIDTH, HEIGHT) for index in range(9)]
FACE = np.s_[24 : 24 + SIZE, 40 : 40 + SIZE]  # of ONE
LOSSLESS = "lossless=1:log-level=error"
COLOURS = [(1, 1, BT709, 1), (1, 1, BT709, 2), (9, BT2020, PQ, 1), (9, BT2020, HLG, 1)]


@pytest.fixture(scope="module")
def direct_vq(components) -> KeepVQModel:
    torch.manual_seed(0)
    vq = KeepVQModel.from_config(components["vq"].config, direct_channels=(16, 32), direct_units=(1, 1))
    with torch.no_grad():
        vq.load_state_dict(components["vq"].state_dict(), strict=False)
        vq.direct.conv_out.weight.normal_(std=0.05)
    return vq.eval()


@pytest.fixture(params=["codes", "direct"])
def pipe(request, make_pipe, direct_vq, components) -> KeepPipeline:
    if request.param == "codes":
        return make_pipe(*[ONE] * 9, gain_window=4)
    pipe = KeepPipeline(direct_vq, components["kalman"], DISFlow(SIZE // 2), KnownFaces([ONE] * 9), gain_window=4)
    pipe.set_progress_bar_config(disable=True)
    return pipe


@pytest.fixture
def written(monkeypatch) -> list:
    """The frames that are passed to the writer, before they are encoded."""
    frames: list = []
    write = VideoWriter.write

    def record(self, image, *args) -> None:
        frames.append(image)
        write(self, image, *args)

    monkeypatch.setattr(VideoWriter, "write", record)
    return frames


def make_source(path, colour=COLOURS[0], params=LOSSLESS, **options):
    return write_deep(path, CLIP, options={"x265-params": params}, colour=colour, **options)


@pytest.mark.parametrize("colour", COLOURS)
def test_only_faces_change_and_they_have_more_than_256_levels(pipe, tmp_path, written, colour):
    pipe.restore_video(make_source(tmp_path / "in.mp4", colour), tmp_path / "out.mp4", strength=1.0)
    assert len(written) == 9
    for frame, planes in zip(written, CLIP, strict=True):
        assert isinstance(frame, DeepImage)
        luma, (top, left) = planes[0].copy(), (24, 40)
        face = frame.planes[0][FACE].astype(int)
        assert np.abs(face - luma[FACE]).mean() > 4
        assert len(np.unique(face)) > 256
        luma[FACE] = frame.planes[0][FACE]
        assert np.array_equal(frame.planes[0], luma)
        half = np.s_[top // 2 : (top + SIZE) // 2, left // 2 : (left + SIZE) // 2]
        for plane, source in zip(frame.planes[1:], planes[1:], strict=True):
            expected = source.copy()
            expected[half] = plane[half]
            assert np.array_equal(plane, expected)


@pytest.mark.parametrize("colour", COLOURS)
def test_a_face_is_that_of_a_restoration_in_8_bits(pipe, tmp_path, written, colour):
    """Compared by Y, because Cb and Cr are subsampled, up to the precision of 8 bits."""
    source = make_source(tmp_path / "in.mp4", colour)
    pipe.restore_video(source, tmp_path / "out.mp4", strength=1.0)
    restored = np.rint(pipe(source, output_type="np", strength=1.0).frames[0] * 255).astype(np.uint8)
    for frame, image in zip(written, restored, strict=True):
        expected = deep_image(image, frame.format).planes[0][FACE].astype(int)
        error = np.abs(frame.planes[0][FACE] - expected)
        assert error.mean() < 3
        assert np.percentile(error, 99) < 16


def test_the_networks_give_faces_that_are_not_rounded(pipe, tmp_path, monkeypatch):
    faces = []

    def record(deep, restored) -> DeepImage:
        faces.extend(paste.face for paste in restored.pastes)
        return restore_deep(deep, restored)

    monkeypatch.setattr("keep_hf.restoration.resumable.restore_deep", record)
    pipe.restore_video(make_source(tmp_path / "in.mp4"), tmp_path / "out.mp4", strength=1.0)
    assert len(faces) == 9
    assert all(face.dtype == np.float32 and (face != np.rint(face)).mean() > 0.5 for face in faces)


@pytest.mark.parametrize("adds_correction", [False, True])
def test_the_face_is_not_rounded_to_8_bits(adds_correction):
    """A face without any structure becomes a smooth ramp; 8 bits would have steps of 4 levels."""
    planes = [np.full((HEIGHT, WIDTH), 500, np.uint16), *[np.full((HEIGHT // 2, WIDTH // 2), 512, np.uint16)] * 2]
    source = DeepImage(planes, DeepFormat(Colour()))
    image = np.rint(source.to_rgb(Box(0, 0, WIDTH, HEIGHT))).astype(np.uint8)
    face = image[FACE] + np.linspace(0, 10, SIZE, dtype=np.float32)[None, :, None]
    matrix = np.array([(1.0, 0, -40), (0, 1, -24)])
    paste = FacePaste(face, matrix, 1.0, np.zeros(3), None, image[FACE] if adds_correction else None)
    restored = RestoredFrame(FollowedFrame(0, image, [], True), image, {}, [paste], {})
    result = restore_deep(source, restored)
    row = result.planes[0][24 + SIZE // 2, 40 + SIZE // 4 : 40 + 3 * SIZE // 4].astype(int)
    assert set(np.diff(row)) == {0, 1}
    assert np.ptp(row) > 12
    assert (source.planes[0] == 500).all()


@pytest.mark.parametrize("colour", COLOURS[2:])
def test_hdr_times_and_sound_are_kept(make_pipe, tmp_path, colour):
    pts = [0, 33, 71, 100, 140, 180, 181, 250, 300]
    options = {"pts": pts, "time_base": Fraction(1, 1000), "audio": True, "rotation": 180}
    source = make_source(tmp_path / "in.mp4", colour, HDR10, **options)
    make_pipe(*[ONE] * 9).restore_video(source, tmp_path / "out.mp4", strength=1.0)
    before, after = inspect(source), inspect(tmp_path / "out.mp4")
    kept = ("matrix", "primaries", "transfer", "range", "mastering display", "light level", "pixel format", "profile")
    assert [after[name] for name in kept] == [before[name] for name in kept]
    assert after["light level"] is not None
    assert times(tmp_path / "out.mp4") == times(source)
    assert packets(tmp_path / "out.mp4", "audio") == packets(source, "audio")


def test_a_resumed_run_gives_the_same_file(make_pipe, tmp_path, monkeypatch, written):
    clip = [smooth_planes(4 * index, WIDTH, HEIGHT) for index in range(30)]
    options = {"x265-params": HDR10}
    source = write_deep(tmp_path / "in.mp4", clip, options=options, colour=COLOURS[2], frame_rate=5)
    settings = {"segment_frames": 4, "codec": "hevc", "crf": 10, "preset": "fast"}
    pipe = make_pipe(*[TWO] * 30, gain_window=4)
    pipe.restore_video(source, tmp_path / "whole.mp4", **settings)
    write = VideoWriter.write

    def fail(self, *args) -> None:
        if self.num_written == 14:
            raise KeyboardInterrupt
        write(self, *args)

    pipe.detector.num_seen = 0
    with monkeypatch.context() as patch:
        patch.setattr(VideoWriter, "write", fail)
        with pytest.raises(KeyboardInterrupt):
            pipe.restore_video(source, tmp_path / "out.mp4", **settings)
    with pytest.raises(ValueError, match="crf was 10 and is 16"):
        pipe.restore_video(source, tmp_path / "out.mp4", resume=True, codec="hevc", preset="fast")
    written.clear()
    report = pipe.restore_video(source, tmp_path / "out.mp4", resume=True, **settings)
    assert report["frames"] == 30
    assert len(written) == 18  # after three segments
    assert (tmp_path / "out.mp4").read_bytes() == (tmp_path / "whole.mp4").read_bytes()


def test_enlarged_frames_have_10_bits(make_pipe, tmp_path, written):
    source = make_source(tmp_path / "in.mp4", COLOURS[2])
    make_pipe(*[ONE] * 9).restore_video(source, tmp_path / "out.mkv", upscale=2, strength=1.0)
    assert written[0].size == (2 * WIDTH, 2 * HEIGHT)
    enlarged = DeepImage(CLIP[0], written[0].format).resized(2 * WIDTH, 2 * HEIGHT)
    luma = written[0].planes[0].copy()
    inside = np.s_[48 : 48 + 2 * SIZE, 80 : 80 + 2 * SIZE]
    assert (luma[inside] != enlarged.planes[0][inside]).mean() > 0.5
    luma[inside] = enlarged.planes[0][inside]
    assert np.array_equal(luma, enlarged.planes[0])


def test_a_background_network_changes_the_whole_frame(make_pipe, tmp_path, written):
    def brighter(image: np.ndarray) -> np.ndarray:
        return np.clip(image.repeat(2, 0).repeat(2, 1).astype(int) + 8, 0, 255).astype(np.uint8)

    source = make_source(tmp_path / "in.mp4")
    make_pipe(*[ONE] * 9).restore_video(source, tmp_path / "out.mkv", upscale=2, background=brighter, strength=1.0)
    enlarged = DeepImage(CLIP[0], written[0].format).resized(2 * WIDTH, 2 * HEIGHT)
    change = written[0].planes[0][:40].astype(int) - enlarged.planes[0][:40]
    assert np.abs(change - 8 * 876 / 255).mean() < 6
    assert len(np.unique(written[0].planes[0][:40])) > 100


def test_aligned_crops(make_pipe, tmp_path, written):
    source = write_deep(tmp_path / "in.mp4", [smooth_planes(i, 96, 96) for i in range(5)])
    make_pipe().restore_video(source, tmp_path / "out.mp4", aligned=True, strength=1.0)
    assert {frame.size for frame in written} == {(SIZE, SIZE)}
    assert inspect(tmp_path / "out.mp4")["profile"] == "Main 10"


def test_options_of_the_encoder_are_checked_before_any_work(make_pipe, tmp_path):
    source = make_source(tmp_path / "in.mp4")
    pipe = make_pipe(*[ONE] * 9)
    for target, options, message in (
        ("out.mp4", {"crf": 99}, "crf must be from 0 to 51, got 99"),
        ("out.webm", {"codec": "h264"}, "can be written with the codec vp9, not h264"),
        ("images", {"crf": 20, "preset": "fast"}, "folder of PNG images; leave out crf=20, preset=fast"),
    ):
        with pytest.raises(ValueError, match=message):
            pipe.restore_video(source, tmp_path / target, **options)
    assert pipe.detector.num_seen == 0
    assert [path.name for path in tmp_path.iterdir()] == ["in.mp4"]


def test_the_settings_of_the_encoder_have_an_effect(make_pipe, tmp_path):
    source = make_source(tmp_path / "in.mp4")
    sizes = []
    for options in ({"crf": 4}, {"crf": 40}, {"crf": 40, "codec": "h264"}):
        make_pipe(*[ONE] * 9).restore_video(source, tmp_path / "out.mp4", **options)
        sizes.append((tmp_path / "out.mp4").stat().st_size)
    assert sizes[0] > 2 * sizes[1]
    assert inspect(tmp_path / "out.mp4")["profile"] == "High 10"
    assert len(decode(tmp_path / "out.mp4")) == len(list(VideoReader(source)))
