"""Reading of videos: frames, times, colours, and errors."""

import gc
import threading
import time
from fractions import Fraction

import av
import cv2
import numpy as np
import pytest

from keep_hf.video.reader import VideoReader, prefetch
from media import copy_clip, difference, gradient, times, write_clip


@pytest.mark.parametrize(("name", "container_format"), [("in.avi", None), ("in.h264", "h264")])
def test_formats_without_presentation_times(tmp_path, name, container_format):
    # H.264 with B-frames in AVI: the timestamps in the file are in decoding order.
    source = write_clip(tmp_path / name, frame_rate=Fraction(30000, 1001), container_format=container_format)
    assert times(source) == [index * Fraction(1001, 30000) for index in range(12)]


def test_reader_can_be_iterated_again_after_an_unfinished_iteration(tmp_path):
    with VideoReader(write_clip(tmp_path / "in.mp4")) as reader:
        first = [frame.image for frame in reader]
        for _ in reader:
            break
        second = [frame.image for frame in reader]
    assert len(first) == 12
    assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))
    assert difference(first[3], gradient(3, 96, 64)) <= 6


def test_timestamps_increase_where_files_were_joined_badly(tmp_path):
    source = write_clip(tmp_path / "in.mkv", codec="mjpeg", pixel_format="yuvj420p", num_frames=6)
    joined = tmp_path / "joined.mkv"
    options = {"avoid_negative_ts": "disabled"}
    with av.open(str(source)) as once, av.open(str(joined), "w", container_options=options) as container:
        stream = container.add_stream_from_template(once.streams[0], opaque=True)
        for index, packet in enumerate(packet for packet in once.demux() if packet.size):
            packet.pts, packet.dts = 40 * (index % 3), index - 10  # the timestamps start again from 0
            packet.stream = stream
            container.mux(packet)
    assert times(joined) == [Fraction(index, 25) for index in range(6)]


@pytest.mark.parametrize(
    ("name", "codec"), [("in.wmv", "wmv2"), ("in.avi", "mpeg4"), ("in.ts", "libx264"), ("in.webm", "libvpx-vp9")]
)
def test_the_rate_of_frames_is_not_that_of_the_clock(tmp_path, name, codec):
    """FFmpeg takes these files, whose rate varies, for 1000 or 2000 frames per second."""
    pts = np.cumsum(np.arange(20) * 7 % 41 + 20).tolist()
    source = write_clip(tmp_path / name, codec=codec, num_frames=20, pts=pts, time_base=Fraction(1, 1000))
    if name == "in.webm":  # as browsers record them
        remove_default_duration(source)
    assert float(VideoReader(source).frame_rate) == pytest.approx(19_000 / (pts[-1] - pts[0]), rel=0.05)


def remove_default_duration(path):
    """Replace the duration of a frame in a Matroska file by an element without meaning of the same length."""
    content = path.read_bytes()
    assert content.count(b"\x23\xe3\x83\x84") == 1
    path.write_bytes(content.replace(b"\x23\xe3\x83\x84", b"\xec\x40\x05\x00"))


@pytest.mark.parametrize("rate", [240, 1000])
def test_a_high_rate_is_kept(tmp_path, rate):
    assert VideoReader(write_clip(tmp_path / "in.mp4", frame_rate=rate)).frame_rate == rate
    assert VideoReader(write_clip(tmp_path / "in.mkv", frame_rate=rate)).frame_rate == rate


@pytest.mark.parametrize(("name", "codec"), [("in.mp4", "libx264"), ("in.avi", "libx264"), ("in.ts", "mpeg2video")])
def test_reading_from_the_middle(tmp_path, name, codec):
    reader = VideoReader(write_clip(tmp_path / name, codec=codec, num_frames=20))
    frames = list(reader)
    for start in (1, 7, 19):
        rest = list(reader.read(start))
        assert [frame.pts for frame in rest] == [frame.pts for frame in frames[start:]]
        assert all(np.array_equal(a.image, b.image) for a, b in zip(rest, frames[start:], strict=True))
    assert list(reader.read(20)) == []


@pytest.mark.parametrize(
    ("name", "codec", "pixel_format"),
    [
        ("ten_bit.mkv", "libx264", "yuv420p10le"),
        ("four_four_four.mp4", "libx264", "yuv444p"),
        ("motion_jpeg.avi", "mjpeg", "yuvj420p"),
        ("rgb.mkv", "ffv1", "bgr0"),
        ("mpeg2.mpg", "mpeg2video", "yuv420p"),
    ],
)
def test_pixel_formats(tmp_path, name, codec, pixel_format):
    source = write_clip(tmp_path / name, codec=codec, pixel_format=pixel_format)
    images = copy_clip(source, tmp_path / "out.mp4", crf=4)
    result = [frame.image for frame in VideoReader(tmp_path / "out.mp4")]
    assert len(images) == len(result) == 12
    for index in range(12):
        expected = gradient(index, 96, 64)
        assert images[index].dtype == np.uint8
        assert np.abs(images[index].astype(int) - expected).mean() < 2.5
        assert np.abs(result[index].astype(int) - images[index]).mean() < 1.5


@pytest.mark.parametrize("colour", [None, (6, 1), (6, 2)])
def test_grey(tmp_path, colour):
    grey = np.repeat(gradient(0, 96, 64)[..., :1], 3, axis=2)
    grey[:8, :8], grey[:8, 8:16] = 0, 255
    # The levels of a grey image are stored in the file unchanged.
    stored = np.rint(16 + grey * (219 / 255)).astype(np.uint8) if colour == (6, 1) else grey
    source = write_clip(tmp_path / "in.mkv", codec="ffv1", pixel_format="gray", images=[stored] * 2, colour=colour)
    read = copy_clip(source, tmp_path / "out.mp4", crf=4)[0]
    assert np.array_equal(read[..., 0], read[..., 1])
    assert difference(read, grey) <= 1
    result = next(iter(VideoReader(tmp_path / "out.mp4"))).image
    assert np.abs(result.astype(int) - grey).mean() < 1.5


def test_transparency_is_ignored_with_a_warning(tmp_path):
    source = write_clip(tmp_path / "in.mov", codec="qtrle", pixel_format="argb")
    with pytest.warns(UserWarning, match="transparency"):
        reader = VideoReader(source)
    assert difference(next(iter(reader)).image, gradient(0, 96, 64)) == 0


@pytest.mark.parametrize(("rotation", "turns"), [(90, 1), (-90, 3), (180, 2)])
def test_rotation_is_applied_once(tmp_path, rotation, turns):
    source = write_clip(tmp_path / "in.mp4", rotation=rotation)
    upright = np.rot90(gradient(0, 96, 64), turns)
    with VideoReader(source) as reader:
        assert abs(reader.rotation) == abs(rotation)
        assert (reader.height, reader.width) == upright.shape[:2]
    copy_clip(source, tmp_path / "out.mp4")
    result = VideoReader(tmp_path / "out.mp4")
    assert result.rotation == 0
    for path in (source, tmp_path / "out.mp4"):
        assert np.abs(next(iter(VideoReader(path))).image.astype(int) - upright).mean() < 3


def test_mirrored(tmp_path):
    path = tmp_path / "in.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height = 96, 64
        stream.set_display_rotation(0, hflip=True)
        frame = av.VideoFrame.from_ndarray(gradient(0, 96, 64), format="rgb24")
        container.mux([*stream.encode(frame), *stream.encode(None)])
    assert np.abs(next(iter(VideoReader(path))).image.astype(int) - gradient(0, 96, 64)[:, ::-1]).mean() < 3


def test_inputs_that_are_not_videos(tmp_path):
    cv2.imwrite(str(tmp_path / "image.jpg"), np.zeros((64, 64, 3), np.uint8))
    cv2.imwrite(str(tmp_path / "image.png"), np.zeros((64, 64, 3), np.uint8))
    (tmp_path / "notes.txt").write_text("Dear diary\n" * 50)
    (tmp_path / "notes.mp4").write_text("Dear diary\n" * 50)
    (tmp_path / "empty.mp4").touch()
    with av.open(str(tmp_path / "sound.wav"), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=48000)
        samples = av.AudioFrame.from_ndarray(np.zeros((1, 9600), np.int16), format="s16", layout="stereo")
        samples.sample_rate = 48000
        container.mux([*stream.encode(samples), *stream.encode(None)])
    for name, message in (
        ("missing.mp4", "does not exist"),
        (".", "is a folder"),
        ("empty.mp4", "is empty"),
        ("notes.txt", "is not a video"),
        ("notes.mp4", "is not a video"),
        ("image.jpg", "is not a video"),
        ("image.png", "is not a video"),
        ("sound.wav", "has no video stream"),
    ):
        with pytest.raises(ValueError, match=message) as caught:
            VideoReader(tmp_path / name)
        assert "\n" not in str(caught.value)


def test_video_without_frames(tmp_path):
    with av.open(str(tmp_path / "in.mkv"), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height = 96, 64
        container.start_encoding()
    with pytest.raises(ValueError, match=r"in\.mkv"):
        VideoReader(tmp_path / "in.mkv")


# Prefetching


def wait_for_threads(name: str) -> bool:
    deadline = time.monotonic() + 2
    while any(thread.name == name for thread in threading.enumerate()):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def test_prefetch_yields_the_same_items_and_prepares_some_in_advance():
    threads = []

    def count():
        for index in range(100):
            threads.append(threading.current_thread())
            yield index

    items = prefetch(count(), depth=3)
    assert next(items) == 0
    time.sleep(0.2)
    assert len(threads) == 5  # one was returned, three are in the queue, one waits for space in it
    assert list(items) == list(range(1, 100))
    assert set(threads) != {threading.current_thread()}
    assert len(set(threads)) == 1
    assert wait_for_threads("prefetch")


def test_prefetch_raises_the_exception_of_the_iterator():
    def count():
        yield 1
        raise KeyError("two")

    items = prefetch(count())
    assert next(items) == 1
    with pytest.raises(KeyError, match="two"):
        next(items)
    assert wait_for_threads("prefetch")


@pytest.mark.parametrize("forget", [False, True])
def test_prefetch_stops_when_it_is_closed_or_garbage_collected(tmp_path, forget):
    ended = threading.Event()

    def count():
        try:
            yield from range(1000)
        finally:
            ended.set()

    items = prefetch(count(), depth=2)
    assert next(items) == 0
    if forget:
        del items
        gc.collect()
    else:
        items.close()
    assert wait_for_threads("prefetch")
    assert ended.wait(2)


def test_reader_can_be_closed_while_a_thread_decodes(tmp_path):
    source = write_clip(tmp_path / "in.mp4", num_frames=100)
    for pause in (0, 0.001, 0.003, 0.01, 0.02):
        with VideoReader(source) as reader:
            frames = prefetch(reader.read(), depth=1000)
            next(frames)
            time.sleep(pause)
        assert 0 <= len(list(frames)) < 100
