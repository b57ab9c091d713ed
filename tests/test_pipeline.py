"""The whole road, from frames and files in to frames and files out."""

import gc

import numpy as np
import pytest
import torch
from PIL import Image

from conftest import SIZE, KnownFaces, make_clip, make_components, make_faces
from keep_hf import KalmanState, KeepPipeline
from keep_hf.video.reader import VideoReader
from media import write_clip
from segformer import make_segformer


ONE = make_faces((40, 24, SIZE))
TWO = make_faces((8, 16, SIZE), (96, 40, SIZE))
NOBODY = make_faces()


@pytest.fixture(scope="module")
def crops() -> np.ndarray:
    return make_clip(25, SIZE, SIZE)


@pytest.fixture(scope="module")
def frames() -> np.ndarray:
    return make_clip(6, 168, 112)


def to_uint8(video: np.ndarray) -> np.ndarray:
    return np.rint(video[0] * 255).astype(np.uint8)


def restore(pipe, video, **options) -> np.ndarray:
    """Restored frames, uint8 (t, h, w, 3)."""
    return to_uint8(pipe(video, output_type="np", **options).frames)


def changed(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    return (before != after).any(axis=-1)


# Forms in and out


def test_the_output_types_hold_the_same_values(make_pipe, crops):
    pipe, video = make_pipe(), crops[:3]
    pil = pipe(video, aligned=True).frames
    array = pipe(video, aligned=True, output_type="np").frames
    tensor = pipe(video, aligned=True, output_type="pt").frames
    assert len(pil) == 1 and len(pil[0]) == 3 and all(frame.size == (SIZE, SIZE) for frame in pil[0])
    assert array.shape == (1, 3, SIZE, SIZE, 3) and array.dtype == np.float32
    assert tensor.shape == (1, 3, 3, SIZE, SIZE) and tensor.dtype == torch.float32
    assert array.min() >= 0 and array.max() <= 1
    np.testing.assert_array_equal(array, tensor.permute(0, 1, 3, 4, 2).numpy())
    np.testing.assert_array_equal(to_uint8(array), np.stack([np.array(frame) for frame in pil[0]]))
    assert changed(video, to_uint8(array)).mean() > 0.9


def test_a_folder_of_pictures_is_a_video(make_pipe, crops, tmp_path):
    for i, image in enumerate(crops[:3]):
        Image.fromarray(image).save(tmp_path / f"{i}.png")
    np.testing.assert_array_equal(
        restore(make_pipe(), tmp_path, aligned=True), restore(make_pipe(), crops[:3], aligned=True)
    )


def test_a_dict_or_a_tuple(make_pipe, frames):
    pipe = make_pipe(*[ONE] * len(frames))
    output = pipe(frames, output_type="np")
    video, tracks = pipe(frames, output_type="np", return_dict=False)
    np.testing.assert_array_equal(output.frames, video)
    np.testing.assert_array_equal(output["frames"], output[0])
    for track in (*output.tracks, *tracks):
        np.testing.assert_array_equal(track.frames, np.arange(len(frames)))
    assert len(output.tracks) == len(tracks) == 1


def test_every_form_of_input_gives_the_same_result(make_pipe, frames, tmp_path):
    path = write_clip(tmp_path / "in.mp4", images=list(frames))
    with VideoReader(path) as reader:
        decoded = np.stack([frame.image for frame in reader])
    forms = {
        "path": path,
        "text": str(path),
        "PIL": [Image.fromarray(frame) for frame in decoded],
        "arrays": list(decoded),
        "iterator": (frame for frame in decoded),
        "uint8": decoded,
        "with alpha": np.concatenate([decoded, decoded[..., :1]], axis=-1),
        "float64": decoded / 255,
        "float32": decoded.astype(np.float32) / 255,
        "tensor": torch.from_numpy(decoded).permute(0, 3, 1, 2) / 255,
    }
    pipe = make_pipe(*[ONE] * len(frames))
    results = {name: restore(pipe, video) for name, video in forms.items()}
    assert changed(decoded, results["uint8"]).any()
    for name, result in results.items():
        np.testing.assert_array_equal(result, results["uint8"], err_msg=name)


def test_aligned_crops_of_another_size_come_back_at_the_size_of_the_model(make_pipe, crops):
    small = make_clip(2, 32, 32)
    assert restore(make_pipe(), small, aligned=True).shape == (2, SIZE, SIZE, 3)
    # Without the network it is the enlarged input that comes back.
    enlarged = restore(make_pipe(), small, aligned=True, strength=0)
    corners = enlarged[:, :: SIZE - 1, :: SIZE - 1]
    np.testing.assert_array_equal(corners, small[:, ::31, ::31])
    assert make_pipe()(crops[:2], aligned=True).tracks == []


# What happens to the frames


def test_a_face_is_restored_where_it_is(make_pipe, frames):
    restored = restore(make_pipe(*[ONE] * len(frames)), frames)
    difference = changed(frames, restored)
    assert difference[:, 24 + 16 : 24 + 48, 40 + 16 : 40 + 48].mean() > 0.9
    difference[:, 24 : 24 + SIZE, 40 : 40 + SIZE] = False
    assert not difference.any(), "pixels outside the crop were touched"


def test_the_face_that_is_pasted_is_the_restored_crop(make_pipe, frames):
    pipe = make_pipe(*[ONE] * len(frames))
    pasted = restore(pipe, frames)[:, 24 : 24 + SIZE, 40 : 40 + SIZE].astype(float)
    faces = restore(pipe, frames[:, 24 : 24 + SIZE, 40 : 40 + SIZE], aligned=True).astype(float)
    middle = np.s_[:, 20:44, 20:44]
    # Equal but for the match of the mean colour, which is one offset a channel and frame.
    offset = pasted[middle] - faces[middle]
    inside = (pasted[middle] > 0) & (pasted[middle] < 255)
    deviation = np.abs(offset - np.median(offset, axis=(1, 2), keepdims=True))
    assert deviation[inside].max() <= 1


def test_strength_0_gives_the_input_back(make_pipe, frames, crops):
    pipe = make_pipe(*[TWO] * len(frames))
    np.testing.assert_array_equal(restore(pipe, frames, strength=0), frames)
    np.testing.assert_array_equal(restore(make_pipe(), crops[:3], aligned=True, strength=0), crops[:3])


def test_strength_blends(make_pipe, crops):
    whole = restore(make_pipe(), crops[:2], aligned=True).astype(float)
    half = restore(make_pipe(), crops[:2], aligned=True, strength=0.5)
    assert np.abs(half - (whole + crops[:2]) / 2).max() <= 0.5


@pytest.mark.parametrize("factor", [2, 3])
def test_upscale_keeps_the_place_of_the_face(make_pipe, frames, factor):
    pipe = make_pipe(*[ONE] * len(frames))
    same, larger = restore(pipe, frames), restore(pipe, frames, upscale=factor)
    assert larger.shape == (len(frames), 112 * factor, 168 * factor, 3)
    untouched = restore(pipe, frames, upscale=factor, strength=0)
    # The middle of pixel x lies at factor * x + (factor - 1) / 2 of the enlarged frame.
    before = np.argwhere(changed(frames, same))[:, 1:].mean(axis=0)
    after = np.argwhere(changed(untouched, larger))[:, 1:].mean(axis=0)
    np.testing.assert_allclose(after, factor * before + (factor - 1) / 2, atol=0.2)


def test_fidelity_changes_the_face(make_pipe, crops):
    video = crops[:3]
    free, close = (restore(make_pipe(), video, aligned=True, fidelity=value) for value in (0, 1))
    assert changed(free, close).mean() > 0.5
    # A pipeline says what its calls use when they do not.
    np.testing.assert_array_equal(restore(make_pipe(fidelity=0.0), video, aligned=True), free)
    np.testing.assert_array_equal(restore(make_pipe(), video, aligned=True), close)


def test_nobody_there_and_frames_go_through(make_pipe, frames):
    pipe = make_pipe(*[NOBODY] * len(frames))
    output = pipe(frames, output_type="np")
    np.testing.assert_array_equal(to_uint8(output.frames), frames)
    assert output.tracks == []


def test_a_frame_without_its_face_goes_through(make_pipe):
    video = make_clip(12, 168, 112)
    restored = restore(make_pipe(*[NOBODY] * 5, *[ONE] * 4, *[NOBODY] * 3), video)
    assert changed(video, restored).any(axis=(1, 2)).tolist() == [False] * 5 + [True] * 4 + [False] * 3


def test_one_frame(make_pipe, frames):
    restored = restore(make_pipe(ONE), frames[:1])
    assert restored.shape == (1, 112, 168, 3)
    assert changed(frames[:1], restored).any()


def test_grey_stays_grey(make_pipe, frames, crops):
    pipe = make_pipe(*[ONE] * len(frames))
    grey = frames[..., :1].repeat(3, axis=-1)
    restored = restore(pipe, grey)
    assert changed(grey, restored).any()
    assert (restored == restored[..., :1]).all()
    assert not (restore(pipe, frames) == restore(pipe, frames)[..., :1]).all()
    aligned = restore(make_pipe(), crops[:2, ..., :1], aligned=True)
    assert (aligned == aligned[..., :1]).all()


def test_the_largest_face_only(make_pipe, frames):
    clip = [make_faces((0, 0, 48), (72, 16, 90))] * len(frames)
    output = make_pipe(*clip)(frames, faces="largest", output_type="np")
    assert len(output.tracks) == 1
    difference = changed(frames, to_uint8(output.frames))
    assert not difference[:, :48, :48].any() and difference[:, 32:90, 90:150].any()


def test_small_faces_stay_as_they_are(make_pipe, frames):
    clip = [make_faces((0, 0, 48), (72, 16, 90))] * len(frames)
    difference = changed(frames, restore(make_pipe(*clip), frames, min_face_size=60))
    assert not difference[:, :48, :48].any() and difference[:, 32:90, 90:150].any()
    assert changed(frames, restore(make_pipe(*clip), frames, min_face_size=48))[:, :48, :48].any()


def test_what_is_in_front_of_a_face_stays(make_pipe, frames, monkeypatch):
    """The parser tells: the right half of the crop is no face, in the first frames; then all of it is."""
    seen = []

    def mask(parser, crops):
        seen.append(parser)
        half = np.ones((SIZE, SIZE), np.float32)
        if len(seen) <= 3:
            half[:, SIZE // 2 :] = 0
        return [half] * len(crops)

    monkeypatch.setattr("keep_hf.restoration.compositor.face_mask", mask)
    parser = make_components()["vq"]  # any model will do: it is not asked
    difference = changed(frames, restore(make_pipe(*[ONE] * len(frames), parser=parser), frames))
    assert seen == [parser] * len(frames)
    assert difference[:3, :, 40 : 40 + SIZE // 2 - 2].any() and not difference[:3, :, 40 + SIZE // 2 + 2 :].any()
    assert difference[3:, :, 40 + SIZE // 2 + 2 :].any(axis=(1, 2)).all(), "steadied, but not frozen"


def test_a_segformer_is_a_component(components, frames, tmp_path):
    parser = make_segformer()
    KeepPipeline(**components, parser=parser).save_pretrained(tmp_path)
    pipe = KeepPipeline.from_pretrained(tmp_path)
    assert type(pipe.parser) is type(parser)
    pipe.register_modules(detector=KnownFaces([ONE] * len(frames)))
    pipe.set_progress_bar_config(disable=True)
    assert changed(frames, restore(pipe, frames)).any()


def test_the_background_can_be_enlarged_by_anything(make_pipe, frames):
    def brighter(frame):
        return np.clip(frame.repeat(2, axis=0).repeat(2, axis=1) + 9.0, 0, 255).astype(np.uint8)

    pipe = make_pipe(*[NOBODY] * len(frames))
    np.testing.assert_array_equal(restore(pipe, frames, upscale=2, background=brighter), [brighter(f) for f in frames])
    # What it lacks or exceeds is made up.
    for factor in (1, 3):
        result = restore(pipe, frames, upscale=factor, background=brighter)
        assert result.shape[1:3] == (112 * factor, 168 * factor)
        assert 5 < (result[:, ::factor, ::factor].astype(float) - frames).mean() < 13


def test_people_are_found_without_being_restored(make_pipe, frames, tmp_path):
    clip = [TWO] * len(frames)
    tracks = make_pipe(*clip).follow(frames)
    restored = make_pipe(*clip)(frames).tracks
    assert [track.track_id for track in tracks] == [0, 1]
    for found, used in zip(tracks, restored, strict=True):
        np.testing.assert_array_equal(found.landmarks, used.landmarks)
    path = write_clip(tmp_path / "in.mp4", images=list(frames))
    assert len(make_pipe(*clip).follow(path)) == 2
    (one,) = make_pipe(*clip)(frames, faces=(1,)).tracks
    assert one.track_id == 1


# The state


def test_official_windows_stand_alone_and_the_stream_goes_on(make_pipe, crops):
    pipe = make_pipe()
    official = restore(pipe, crops, aligned=True, gain_mode="official")
    stream = restore(pipe, crops, aligned=True)
    pieces = [restore(pipe, piece, aligned=True, gain_mode="official") for piece in (crops[:20], crops[20:])]
    np.testing.assert_array_equal(official, np.concatenate(pieces))
    assert changed(stream[20:], official[20:]).any(axis=(1, 2)).all()


def test_the_gain_modes_of_faces_in_frames(make_pipe):
    video = make_clip(6, 168, 112)
    official = restore(make_pipe(*[ONE] * 6, gain_window=4), video, gain_mode="official")
    stream = restore(make_pipe(*[ONE] * 6, gain_window=4), video)
    pieces = [restore(make_pipe(*[ONE] * len(piece)), piece, gain_mode="official") for piece in (video[:4], video[4:])]
    np.testing.assert_array_equal(official, np.concatenate(pieces))
    assert changed(stream[4:], official[4:]).any(axis=(1, 2)).all()


def test_the_result_is_always_the_same(make_pipe, frames):
    clip = [TWO] * len(frames)
    results = [restore(make_pipe(*clip), frames) for _ in range(2)]
    np.testing.assert_array_equal(*results)


def test_two_people_have_a_state_each(make_pipe):
    video = make_clip(10, 168, 112)
    left, right = make_faces((8, 16, SIZE)), make_faces((96, 40, SIZE))
    # The one on the right comes three frames later; windows of 4 carry two states over two borders.
    both = restore(make_pipe(*[left] * 3, *[TWO] * 7, gain_window=4), video)
    left_alone = restore(make_pipe(*[left] * 10, gain_window=4), video)
    right_alone = restore(make_pipe(*[NOBODY] * 3, *[right] * 7, gain_window=4), video)
    # Two in a batch are rounded otherwise than one.
    assert np.abs(both[:, :, :84].astype(int) - left_alone[:, :, :84]).max() <= 1
    assert np.abs(both[:, :, 84:].astype(int) - right_alone[:, :, 84:]).max() <= 1
    assert changed(video, left_alone).any() and changed(video, right_alone).any()


def test_a_moving_face_that_comes_later_is_followed(make_pipe):
    video = make_clip(10, 168, 112)
    for i in range(7):
        video[3 + i, 24 : 24 + SIZE, 20 + 6 * i : 20 + 6 * i + SIZE] = make_clip(1, SIZE, SIZE, seed=1)[0]
    walk = [make_faces((20 + 6 * i, 24, SIZE)) for i in range(7)]
    # At one frame per second there is no smoothing to speak of.
    restored = restore(make_pipe(*[NOBODY] * 3, *walk, gain_window=3), video, frame_rate=1)
    np.testing.assert_array_equal(restored[:3], video[:3])
    for i in range(7):
        columns = np.flatnonzero(changed(video, restored)[3 + i].any(axis=0))
        assert abs(columns.mean() - (20 + 6 * i + (SIZE - 1) / 2)) < 2


def test_people_who_left_take_no_memory(make_pipe):
    # One after the other, each in another place
    places = [make_faces((8, 16, SIZE)), make_faces((96, 40, SIZE))]
    clip = [places[i // 4 % 2] for i in range(24)]
    stream = make_pipe(*clip, gain_window=4).stream(frame_rate=1)
    segments = set()
    gc.collect()
    gc.freeze()  # get_objects then returns new objects only
    try:
        for restored in stream.restore(make_clip(24, 168, 112)):
            segments.update(face.segment for face in restored.followed.faces)
            assert sum(type(thing) is KalmanState for thing in gc.get_objects()) <= 2
    finally:
        gc.unfreeze()
    assert len(segments) == 6


# Components


def test_offload_to_the_cpu_changes_nothing(components, make_pipe, frames):
    expected = restore(make_pipe(*[ONE] * len(frames)), frames)
    pipe = make_pipe(*[ONE] * len(frames))
    pipe.enable_model_cpu_offload(device="cpu")
    try:
        assert all(hasattr(components[name], "_hf_hook") for name in ("vq", "kalman", "flow"))
        for _ in range(2):
            np.testing.assert_array_equal(restore(pipe, frames), expected)
    finally:
        pipe.remove_all_hooks()


def test_attention_backends_agree(components, make_pipe, crops):
    vq = components["vq"]
    pipe = make_pipe()
    results = []
    # The last one stays the default of the process, whatever is reset.
    for backend in ("_native_math", "native"):
        vq.set_attention_backend(backend)
        results.append(restore(pipe, crops[:3], aligned=True).astype(int))
    vq.reset_attention_backend()
    assert np.abs(results[0] - results[1]).max() <= 1


def test_the_progress_bar_can_be_silent(make_pipe, crops, capsys):
    pipe = make_pipe()
    pipe(crops[:2], aligned=True)
    assert capsys.readouterr().err == ""
    pipe.set_progress_bar_config(disable=False)
    pipe(crops[:2], aligned=True)
    assert "2/2" in capsys.readouterr().err


def test_a_single_frame_model_needs_no_gain_network(components, crops):
    pipe = KeepPipeline(components["vq"])
    pipe.set_progress_bar_config(disable=True)
    assert restore(pipe, crops[:2], aligned=True).shape == (2, SIZE, SIZE, 3)
    with pytest.raises(ValueError, match="go together"):
        KeepPipeline(components["vq"], kalman=components["kalman"])


# Invalid options


@pytest.mark.parametrize(("option", "value"), [("strength", 1.5), ("output_type", "latent")])
def test_an_invalid_option_raises_before_detection(make_pipe, frames, option, value):
    pipe = make_pipe(*[ONE] * len(frames))
    with pytest.raises(ValueError, match=f"{option} must be .*{value}"):
        pipe(frames, **{option: value})
    assert pipe.detector.num_seen == 0
