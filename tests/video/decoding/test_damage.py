"""Damaged videos: frames that cannot be decoded keep their place, and warnings count them."""

import itertools
import warnings
from fractions import Fraction
from types import SimpleNamespace

import av
import numpy as np
import pytest

from damaged import GARBAGE, damage_packets, join_sizes
from keep_hf.video.decoding.orientation import Orientation
from keep_hf.video.reader import VideoReader
from media import copy_clip, difference, gradient, times, write_clip
from paths import SHARED


FIELD = SHARED / "field"
MJPEG = {"codec": "mjpeg", "pixel_format": "yuvj420p"}


def read_damaged(path):
    """The frames of a file, its damage, and the text of the warnings."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        video = VideoReader(path)
        frames = list(video)
        assert [frame.pts for frame in video] == [frame.pts for frame in frames]  # no second warning
    return frames, video.damage, [str(warning.message) for warning in caught]


@pytest.mark.filterwarnings("ignore:.*has 10 bits")
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("in.mkv", MJPEG),
        ("in.mp4", {}),
        ("in.mov", {"codec": "prores_ks", "pixel_format": "yuv422p10le"}),
        ("in.avi", {"codec": "mpeg4"}),
        ("in.webm", {"codec": "libvpx-vp9"}),
        ("in.mp4", {"codec": "libx265"}),
    ],
)
@pytest.mark.parametrize("bad", [10, 29])
def test_the_last_good_frame_is_shown_again(tmp_path, name, options, bad):
    source = write_clip(tmp_path / f"whole_{name}", num_frames=30, **options)
    whole = list(VideoReader(source))
    frames, damage, messages = read_damaged(damage_packets(source, tmp_path / name, [bad]))
    assert [(frame.pts, frame.duration) for frame in frames[:-1]] == [(f.pts, f.duration) for f in whole[:-1]]
    assert frames[-1].pts == whole[-1].pts
    assert damage.num_repeated >= 1
    assert damage.num_left_out == damage.num_concealed == 0
    repeated = [i for i in range(1, 30) if np.array_equal(frames[i].image, frames[i - 1].image)]
    assert len(repeated) == damage.num_repeated
    assert damage.first_damaged == repeated[0]
    # All frames that do not depend on it are those of the whole file; up to three before it may be B-frames.
    is_intra = options.get("codec") in ("mjpeg", "prores_ks")
    good = [i for i in range(30) if i < repeated[0] - 3 or (is_intra and i not in repeated)]
    assert all(np.array_equal(frames[i].image, whole[i].image) for i in good)
    warning = next(message for message in messages if "decoded" in message)
    assert f"{name}: {damage.num_repeated} frame" in warning
    assert len([message for message in messages if "decoded" in message]) == 1


def test_all_frames_that_depend_on_a_damaged_key_frame_keep_their_times(tmp_path):
    # H.264 with open groups of frames returns one error, then silently no frames, then some of them in a wrong order.
    path, size = tmp_path / "whole.mp4", (96, 64)
    with av.open(str(path), "w") as container:
        options = {
            "x264-params": "keyint=12:min-keyint=12:open-gop=1:bframes=2:b-pyramid=none:scenecut=0",
            "crf": "18",
        }
        stream = container.add_stream("libx264", rate=25, options=options)
        stream.width, stream.height = size
        for index in range(50):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(gradient(index, *size), format="rgb24")))
        container.mux(stream.encode(None))
    whole = list(VideoReader(path))
    for bad in (0, 12, 24, 25, 47):
        frames, damage, messages = read_damaged(damage_packets(path, tmp_path / "in.mp4", [bad]))
        start = damage.num_left_out
        assert (start > 0) == (bad == 0)
        assert [frame.pts for frame in frames] == [frame.pts for frame in whole[start:]], bad
        assert damage.num_repeated > 0 or bad == 0
        assert len(messages) == 1
        late = [difference(a.image, b.image) for a, b in zip(frames[40 - start :], whole[40:], strict=True)]
        assert bad == 47 or max(late) == 0


@pytest.mark.parametrize("name", ["in.mkv", "in.avi"])
def test_damage_at_the_start_delays_the_first_frame(tmp_path, name):
    source = write_clip(tmp_path / f"whole_{name}", num_frames=12, **MJPEG)
    whole = list(VideoReader(source))
    frames, damage, messages = read_damaged(damage_packets(source, tmp_path / name, [0, 1]))
    assert [frame.pts for frame in frames] == [frame.pts for frame in whole[2:]]
    assert damage.num_left_out == damage.num_damaged == 2
    assert messages == [f"{tmp_path / name}: the first 2 frames could not be decoded; the result starts after them."]


def test_a_recording_that_starts_without_a_key_frame(tmp_path):
    source = write_clip(tmp_path / "whole.ts", codec="mpeg2video", num_frames=40)
    content = source.read_bytes()
    (tmp_path / "in.ts").write_bytes(content[: 188 * 3] + content[188 * (len(content) // 188 // 4) :])
    frames, damage, messages = read_damaged(tmp_path / "in.ts")
    assert damage.num_left_out > 0
    assert len(messages) >= 1
    assert "could not be decoded; the result starts after" in messages[0]
    last = list(VideoReader(source))[-1]
    assert difference(frames[-1].image, last.image) == 0


@pytest.mark.parametrize(("name", "codec"), [("in.mp4", "mpeg4"), ("in.avi", "mpeg4")])
def test_frames_that_the_decoder_filled_are_counted(tmp_path, name, codec):
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 255, (64, 96, 3), dtype=np.uint8) for _ in range(12)]
    source = write_clip(tmp_path / f"whole_{name}", images=images, codec=codec)
    frames, damage, messages = read_damaged(damage_packets(source, tmp_path / name, [4], 0.7))
    assert len(frames) == 12
    assert damage.num_concealed >= 1
    assert any(f"{damage.num_concealed} frame" in message and "damaged parts" in message for message in messages)


def test_strict_reading_stops_at_the_damaged_frame(tmp_path):
    source = write_clip(tmp_path / "whole.mkv", **MJPEG)
    damaged = damage_packets(source, tmp_path / "damaged.mkv", [9])
    seen = 0
    with pytest.raises(ValueError, match=r"damaged\.mkv: frame 9 cannot be decoded"):
        for _ in VideoReader(damaged, strict=True):
            seen += 1
    assert seen == 9
    assert len(list(VideoReader(source, strict=True))) == 12


@pytest.mark.filterwarnings("ignore:.*could not be decoded", "ignore:.*damaged parts")
def test_damaged_files_are_read_from_the_middle_as_from_the_start(tmp_path):
    source = write_clip(tmp_path / "whole.mp4", num_frames=40)
    damaged = damage_packets(source, tmp_path / "in.mp4", [11, 12, 25])
    frames = list(VideoReader(damaged))
    assert len(frames) == 40
    for start in (0, 1, 10, 11, 12, 13, 26, 39):
        video = VideoReader(damaged)
        rest = list(video.read(start))
        assert [frame.pts for frame in rest] == [frame.pts for frame in frames[start:]]
        assert all(np.array_equal(a.image, b.image) for a, b in zip(rest, frames[start:], strict=True))
        assert video.damage.num_read == 40


@pytest.mark.parametrize("name", ["in.mp4", "in.mkv", "in.ts"])
@pytest.mark.parametrize("damaged", [[9], [10, 11], [30, 31, 32]])
def test_readings_of_a_damaged_file_are_equal(tmp_path, name, damaged):
    # With several threads, B-frames that are shown before a damaged frame differed from one reading to the next.
    rng = np.random.default_rng(0)
    images = [np.roll(gradient(index, 96, 64) + rng.integers(0, 60, (64, 96, 3), dtype=np.uint8), index, 1)
              for index in range(40)]  # fmt: skip
    source = write_clip(tmp_path / "whole.mp4", images=images)
    path = damage_packets(source, tmp_path / name, damaged, 0.6)
    frames, damage, _ = read_damaged(path)
    assert damage.num_damaged
    for _ in range(3):
        again, damage_again, _ = read_damaged(path)
        assert damage_again == damage
        assert all(np.array_equal(a.image, b.image) for a, b in zip(frames, again, strict=True))


@pytest.mark.parametrize("bad", [9, 10, 11, 12])
def test_lost_frames_of_avi_are_at_their_places(tmp_path, bad):
    # AVI has no times of its own; the frame that is missing is found by the order of the others.
    images = [gradient(3 * index, 96, 64) for index in range(20)]
    source = write_clip(tmp_path / "whole.avi", images=images, codec="mpeg4")
    frames, damage, _ = read_damaged(damage_packets(source, tmp_path / "in.avi", [bad]))
    assert damage.num_repeated == 1
    assert [frame.pts for frame in frames] == list(range(20))
    assert np.array_equal(frames[bad].image, frames[bad - 1].image)
    assert difference(frames[bad - 1].image, next(itertools.islice(VideoReader(source), bad - 1, None)).image) == 0


def test_frames_before_an_edit_list_are_not_repeated(tmp_path):
    source = write_clip(tmp_path / "whole.mp4", num_frames=30)
    cut = tmp_path / "cut.mp4"
    options = {"avoid_negative_ts": "disabled", "movflags": "+negative_cts_offsets"}
    with av.open(str(source)) as whole, av.open(str(cut), "w", container_options=options) as container:
        stream = container.add_stream_from_template(whole.streams.video[0])
        for packet in whole.demux(video=0):
            if packet.size:
                shift = round(8 / 25 / packet.time_base)
                packet.pts, packet.dts, packet.stream = packet.pts - shift, packet.dts - shift, stream
                container.mux(packet)
    with av.open(str(cut)) as container:
        assert sum(packet.is_discard for packet in container.demux(video=0)) == 8
    assert len(times(cut)) == 22
    with av.open(str(cut)) as whole, av.open(str(tmp_path / "in.mp4"), "w", container_options=options) as container:
        stream = container.add_stream_from_template(whole.streams.video[0])
        for index, packet in enumerate(packet for packet in whole.demux(video=0) if packet.size):
            copy = av.Packet(GARBAGE if index in (3, 20) else bytes(packet))
            copy.pts, copy.dts, copy.time_base, copy.is_keyframe = packet.pts, packet.dts, packet.time_base, index == 0
            copy.stream = stream
            container.mux(copy)
    frames, damage, _ = read_damaged(tmp_path / "in.mp4")
    assert [frame.pts for frame in frames] == [frame.pts for frame in VideoReader(cut)]
    assert damage.num_repeated == 1


def test_undamaged_files_with_packets_that_are_not_shown(tmp_path):
    # VP8 has packets that only update a reference; without an error, no packet counts as lost.
    images = [gradient(index // 3, 96, 64) for index in range(60)]
    path = tmp_path / "in.webm"
    with av.open(str(path), "w") as container:
        options = {"auto-alt-ref": "1", "lag-in-frames": "16", "b": "200k"}
        stream = container.add_stream("libvpx", rate=25, options=options)
        stream.width, stream.height = 96, 64
        for image in images:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode(None))
    frames, damage, messages = read_damaged(path)
    assert len(frames) == 60
    assert damage.num_damaged == 0
    assert messages == []


# Size


def write_two_sizes(path, second=(128, 96)):
    """A raw H.264 stream of 96 x 64, whose size changes after 6 frames."""
    first = write_clip(path.with_name("first.h264"), num_frames=6, container_format="h264")
    return join_sizes(first, path, second)


@pytest.mark.parametrize(("second", "bars"), [((192, 128), 0), ((48, 32), 0), ((64, 96), 26), ((98, 64), 0)])
def test_frames_of_another_size_are_fitted_into_the_first(tmp_path, second, bars):
    source = write_two_sizes(tmp_path / "in.h264", second=second)
    frames, damage, messages = read_damaged(source)
    assert len(frames) == 12
    assert {frame.image.shape for frame in frames} == {(64, 96, 3)}
    assert damage.num_resized == 6
    assert damage.num_damaged == 0
    assert messages == [f"{source}: the frame size changes; 6 frames were fitted into the size of the first frame."]
    image = frames[8].image
    assert (image[:, :bars].max(initial=0), image[:, 96 - bars :].max(initial=0)) == (0, 0)
    assert image[:, bars].max() > 20
    assert image[[0, -1]].max(axis=(1, 2)).min() > 20
    expected = gradient(2, *second)[second[1] // 2, second[0] // 2]
    assert np.abs(image[32, 48].astype(int) - expected).max() < 8
    with pytest.raises(ValueError, match=r"frame size changes from \(96, 64\) to .* at frame 6"):
        list(VideoReader(source, strict=True))


def test_a_video_whose_size_changes_can_be_written(tmp_path):
    with pytest.warns(UserWarning, match="frame size changes"):
        copy_clip(write_two_sizes(tmp_path / "in.h264"), tmp_path / "out.mp4")
    assert times(tmp_path / "out.mp4") == [Fraction(index, 25) for index in range(12)]


# Side data


def test_side_data_without_a_name_in_pyav(tmp_path):
    class Unnamed(SimpleNamespace):
        @property
        def side_data(self):
            raise ValueError("29 is not a valid Type")

    for rotation in (0, 90, 180, -90):
        frame = next(iter(av.open(str(write_clip(tmp_path / "in.mp4", rotation=rotation))).decode(video=0)))
        assert Orientation.read(Unnamed(rotation=frame.rotation)) == Orientation.read(frame)


@pytest.mark.skipif(not (FIELD / "mvhevc.mov").is_file(), reason="the inputs of ../shared/field are missing")
def test_the_base_view_of_a_spatial_video_is_read():
    frames, damage, _ = read_damaged(FIELD / "mvhevc.mov")
    assert len(frames) == 5
    assert damage.num_damaged == 0


@pytest.mark.skipif(not (FIELD / "one_bad_frame.mp4").is_file(), reason="the inputs of ../shared/field are missing")
def test_one_bad_frame_of_fifty():
    frames, damage, messages = read_damaged(FIELD / "one_bad_frame.mp4")
    assert [frame.pts * frame.time_base for frame in frames] == [Fraction(index, 25) for index in range(50)]
    assert damage.num_repeated == 9
    assert len(messages) == 1
