"""The metadata of HDR: read from files, and as parameters of the encoders."""

from dataclasses import dataclass, replace

import numpy as np
import pytest

from deep_media import HDR10, LIGHT_LEVEL, MASTERING, inspect, smooth_planes, write_deep
from keep_hf.video.deep.hdr_metadata import HdrMetadata
from keep_hf.video.reader import VideoReader
from keep_hf.video.writer import VideoWriter


CLIP = [smooth_planes(index, 96, 64) for index in range(3)]


def test_metadata_are_read_in_the_units_of_a_bit_stream(tmp_path):
    source = write_deep(tmp_path / "in.mp4", CLIP, options={"x265-params": HDR10})
    metadata = VideoReader(source).deep.metadata
    assert metadata.mastering_display == MASTERING
    assert metadata.light_level == LIGHT_LEVEL
    assert metadata.dynamic == ()
    assert HDR10.startswith(":".join(metadata.encoder_parameters("libx265")))
    assert metadata.encoder_parameters("libx264")[1] == "cll=1000,400"


def test_a_video_without_metadata_gets_none(tmp_path):
    metadata = VideoReader(write_deep(tmp_path / "in.mp4", CLIP)).deep.metadata
    assert metadata == HdrMetadata()
    assert metadata.encoder_parameters("libx265") == []


@dataclass
class Frame:
    """A decoded frame, as far as its metadata go; no encoder of PyAV writes dynamic ones."""

    side_data: dict[str, bytes]


def test_metadata_that_change_from_frame_to_frame_are_recognized():
    frame = Frame({"DOVI_RPU_BUFFER": b"1", "DOVI_METADATA": b"2", "DYNAMIC_HDR_PLUS": b"3", "SEI_UNREGISTERED": b"4"})
    assert HdrMetadata.read(frame) == HdrMetadata(dynamic=("Dolby Vision", "HDR10+"))


def test_metadata_that_pyav_does_not_know_are_reported():
    class SpatialFrame:
        @property
        def side_data(self) -> dict:
            raise ValueError("29 is not a valid Type")

    assert HdrMetadata.read(SpatialFrame()).dynamic == ("HDR and spatial video",)


def test_dynamic_metadata_are_left_out_with_a_warning(tmp_path):
    reader = VideoReader(write_deep(tmp_path / "in.mp4", CLIP, options={"x265-params": HDR10}))
    reader.deep = replace(reader.deep, metadata=replace(reader.deep.metadata, dynamic=("Dolby Vision",)))
    with pytest.warns(UserWarning, match=r"out\.mp4 does not include the Dolby Vision metadata"):
        writer = VideoWriter(tmp_path / "out.mp4", reader, width=96, height=64)
    with writer:
        for frame in reader.read(deep=True):
            writer.write(frame.deep, frame.pts, frame.duration)
    assert inspect(tmp_path / "out.mp4")["light level"] == [*LIGHT_LEVEL]


def test_half_of_the_mastering_display_is_not_taken():
    content = np.zeros(22, np.int32)
    content[1:20:2] = 1
    content[20] = 1  # chromaticities, but no luminances
    assert HdrMetadata.read(Frame({"MASTERING_DISPLAY_METADATA": content.tobytes()})) == HdrMetadata()
