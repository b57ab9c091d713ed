"""Truncated files are read as far as they go, and a warning has both numbers of frames."""

import warnings
from fractions import Fraction

import av
import pytest

from damaged import move_index_to_front, truncate
from keep_hf.video.reader import VideoReader
from media import times, write_clip


CLIPS = [
    ("in.mp4", {"audio_codec": "aac"}, 100),
    ("in.mov", {"codec": "mpeg4"}, 100),
    ("in.mkv", {"audio_codec": "flac"}, 100),
    ("in.webm", {"codec": "libvpx-vp9", "audio_codec": "libopus"}, 100),
    ("in.avi", {"codec": "mpeg4", "audio_codec": "libmp3lame"}, 100),
    ("in.flv", {"codec": "flv"}, 100),
    ("in.wmv", {"codec": "wmv2"}, None),  # FFmpeg does not return the length of a WMV that is too short
]


def write_whole(tmp_path, name, options):
    source = write_clip(tmp_path / f"plain_{name}", num_frames=100, **options)
    is_mp4 = source.suffix in (".mp4", ".mov")
    return move_index_to_front(source, tmp_path / f"whole_{name}") if is_mp4 else source


@pytest.mark.parametrize(("name", "options", "announced"), CLIPS)
@pytest.mark.filterwarnings("ignore:.*could not be decoded", "ignore:.*damaged parts")
@pytest.mark.parametrize("kept", [0.5, 0.7])
def test_both_numbers_of_frames_are_reported(tmp_path, name, options, announced, kept):
    whole = write_whole(tmp_path, name, options)
    cut = truncate(whole, tmp_path / name, kept)
    reader = VideoReader(cut)
    with pytest.warns(UserWarning, match="truncated") as caught:
        frames = list(reader)
    assert 20 < len(frames) < 100
    shown = [frame.pts * frame.time_base for frame in frames]
    assert shown[:-4] == times(whole)[: len(frames) - 4]  # B-frames between the last ones may be cut off
    assert set(shown) <= set(times(whole))
    damage = reader.damage
    assert damage.is_truncated
    assert damage.num_read == len(frames)
    assert damage.num_announced is None if announced is None else abs(damage.num_announced - announced) <= 2
    number = f"{damage.num_announced} frames" if announced else "more frames"
    assert str(caught[-1].message) == f"{cut} is truncated: it announces {number}, {len(frames)} could be read."
    with pytest.raises(ValueError, match=f"{name} is truncated"):
        VideoReader(cut, strict=True)


@pytest.mark.parametrize(("name", "options", "announced"), CLIPS)
def test_whole_files_are_not_truncated(tmp_path, name, options, announced):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        reader = VideoReader(write_whole(tmp_path, name, options), strict=True)
        assert len(list(reader)) == 100


@pytest.mark.filterwarnings("ignore:.*could not be decoded")
@pytest.mark.parametrize("movflags", ["frag_keyframe+empty_moov", "frag_keyframe+default_base_moof"])
def test_fragmented_files(tmp_path, movflags):
    source = write_clip(tmp_path / "plain.mp4", num_frames=100, codec="mpeg4")
    with (
        av.open(str(source)) as plain,
        av.open(str(tmp_path / "whole.mp4"), "w", options={"movflags": movflags}) as to,
    ):
        stream = to.add_stream_from_template(plain.streams.video[0])
        for packet in plain.demux(video=0):
            if packet.size:
                packet.stream = stream
                to.mux(packet)
    assert len(list(VideoReader(tmp_path / "whole.mp4", strict=True))) == 100
    with pytest.warns(UserWarning, match="truncated"):
        assert 20 < len(list(VideoReader(truncate(tmp_path / "whole.mp4", tmp_path / "in.mp4")))) < 100


def test_a_file_whose_index_alone_is_cut_off_has_all_frames(tmp_path):
    whole = write_clip(tmp_path / "whole.avi", num_frames=100, codec="mpeg4")
    reader = VideoReader(truncate(whole, tmp_path / "in.avi", 0.99))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(list(reader)) == 100
    assert not reader.damage.is_truncated


@pytest.mark.filterwarnings("ignore:.*could not be decoded")
@pytest.mark.parametrize(("name", "codec"), [("in.webm", "libvpx-vp9"), ("in.mkv", "mpeg4")])
def test_a_container_that_cannot_be_read_to_its_end(tmp_path, name, codec):
    whole = write_clip(tmp_path / f"whole_{name}", num_frames=100, codec=codec)
    content = bytearray(whole.read_bytes())
    # Up to its index at the end, the file contains blocks without any place from which reading could go on.
    for start in range(len(content) // 2, len(content), 8):
        content[start : start + 4] = bytes(4)
    (tmp_path / name).write_bytes(content)
    reader = VideoReader(tmp_path / name)
    with pytest.warns(UserWarning, match=rf"{name} is damaged: it announces 100 frames, \d+ could be read"):
        frames = list(reader)
    assert 20 < len(frames) < 70
    assert reader.damage.is_truncated
    with pytest.raises(ValueError, match=r"could be read|cannot be decoded"):
        list(VideoReader(tmp_path / name, strict=True))


def test_a_long_last_frame_is_no_damage(tmp_path):
    pts = [*range(20), 500]
    whole = write_clip(tmp_path / "in.mkv", num_frames=21, pts=pts, time_base=Fraction(1, 25), codec="mpeg4")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(list(VideoReader(whole, strict=True))) == 21


def test_an_mp4_without_its_index_cannot_be_read(tmp_path):
    source = write_clip(tmp_path / "in.mp4", num_frames=60)
    (tmp_path / "truncated.mp4").write_bytes(source.read_bytes()[:-3000])
    with pytest.raises(ValueError, match=r"truncated\.mp4 is not a video, or is truncated or damaged"):
        VideoReader(tmp_path / "truncated.mp4")


def test_live_recordings_announce_no_length(tmp_path):
    source = write_clip(tmp_path / "plain.mkv", num_frames=100)
    with av.open(str(source)) as plain, av.open(str(tmp_path / "in.mkv"), "w", options={"live": "1"}) as container:
        stream = container.add_stream_from_template(plain.streams.video[0])
        for packet in plain.demux(video=0):
            if packet.size:
                packet.stream = stream
                container.mux(packet)
    cut = truncate(tmp_path / "in.mkv", tmp_path / "cut.mkv")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert 20 < len(list(VideoReader(cut, strict=True))) < 100


def test_a_tag_with_another_text_is_no_duration(tmp_path):
    source = write_clip(tmp_path / "in.mkv")
    content = source.read_bytes()
    assert content.count(b"00:00:00.480000000") == 1
    source.write_bytes(content.replace(b"00:00:00.480000000", b"half a second     "))
    reader = VideoReader(source)
    assert len(list(reader)) == 12
    assert reader.damage.messages(source) == []
