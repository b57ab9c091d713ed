"""Times of frames in files that have only decoding times, or none."""

from fractions import Fraction

import pytest

from keep_hf.video.reader import VideoReader
from media import copy_clip, packets, times, write_clip


DROPPED = [*range(12), *range(37, 50)]


@pytest.mark.parametrize(
    ("codec", "pixel_format"), [("libx264", "yuv420p"), ("mpeg4", "yuv420p"), ("mjpeg", "yuvj420p")]
)
def test_empty_chunks_of_avi_count_as_time(tmp_path, codec, pixel_format):
    source = write_clip(
        tmp_path / "in.avi",
        num_frames=len(DROPPED),
        pts=DROPPED,
        time_base=Fraction(1, 25),
        codec=codec,
        pixel_format=pixel_format,
        audio_codec="libmp3lame",
    )
    found = times(source)
    # FFmpeg's muxer writes an empty chunk after the first frame if frames are not reordered.
    late = found[1] - Fraction(1, 25)
    assert found == [Fraction(0), *(late + Fraction(index, 25) for index in DROPPED[1:])]
    assert late == (0 if codec == "libx264" else Fraction(1, 25))
    copy_clip(source, tmp_path / "out.mp4")
    assert times(tmp_path / "out.mp4") == found
    assert abs(packets(tmp_path / "out.mp4", "audio")[-1][0] - packets(source, "audio")[-1][0]) < 0.002


def test_frames_are_numbered_where_there_are_no_times(tmp_path):
    source = write_clip(tmp_path / "in.h264", num_frames=12, frame_rate=Fraction(30000, 1001))
    reader = VideoReader(source)
    steps = [frame.pts for frame in reader]
    exact = 1 / (reader.frame_rate * reader.time_base)
    assert steps == [round(index * exact) for index in range(12)]
