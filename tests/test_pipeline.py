"""The pipeline end to end: forms of input and output, options, and components."""

import numpy as np
import pytest
import torch
from PIL import Image

from conftest import SIZE, make_clip, make_faces
from keep_hf import KeepPipeline
from keep_hf.video.reader import VideoReader
from media import write_clip
from restored import NO_FACES, ONE, TWO, changed, restore, to_uint8


@pytest.fixture(scope="module")
def crops() -> np.ndarray:
    return make_clip(3, SIZE, SIZE)


@pytest.fixture(scope="module")
def frames() -> np.ndarray:
    return make_clip(6, 168, 112)


# Forms of input and output


def test_the_output_types_have_the_same_values(make_pipe, crops):
    pipe, video = make_pipe(), crops[:3]
    pil = pipe(video, aligned=True).frames
    array = pipe(video, aligned=True, output_type="np").frames
    tensor = pipe(video, aligned=True, output_type="pt").frames
    assert len(pil) == 1
    assert len(pil[0]) == 3
    assert all(frame.size == (SIZE, SIZE) for frame in pil[0])
    assert array.shape == (1, 3, SIZE, SIZE, 3)
    assert array.dtype == np.float32
    assert tensor.shape == (1, 3, 3, SIZE, SIZE)
    assert tensor.dtype == torch.float32
    assert array.min() >= 0
    assert array.max() <= 1
    np.testing.assert_array_equal(array, tensor.permute(0, 1, 3, 4, 2).numpy())
    np.testing.assert_array_equal(to_uint8(array), np.stack([np.array(frame) for frame in pil[0]]))
    assert changed(video, to_uint8(array)).mean() > 0.9


def test_an_image_folder_is_a_video(make_pipe, crops, tmp_path):
    for i, image in enumerate(crops[:3]):
        Image.fromarray(image).save(tmp_path / f"{i}.png")
    np.testing.assert_array_equal(
        restore(make_pipe(), tmp_path, aligned=True), restore(make_pipe(), crops[:3], aligned=True)
    )


def test_the_output_is_a_dict_or_a_tuple(make_pipe, frames):
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


# Batches

ALIGNED = {"aligned": True, "strength": 1.0, "output_type": "np"}


def test_the_pipeline_takes_its_own_output(make_pipe, crops):
    once = restore(make_pipe(), crops, aligned=True)
    expected = restore(make_pipe(), once, aligned=True)
    for output_type in ("pil", "np", "pt"):
        frames = make_pipe()(crops, aligned=True, strength=1.0, output_type=output_type).frames
        again = make_pipe()(frames, aligned=True, strength=1.0, output_type=output_type).frames
        assert type(again) is type(frames)
        assert len(again) == 1
        again = make_pipe()(frames, **ALIGNED).frames  # a list of one array, or an array of one video
        np.testing.assert_array_equal(to_uint8(again), expected)


def test_a_list_of_videos_gives_a_list(make_pipe, crops, tmp_path):
    pipe = make_pipe()
    videos = [crops, list(crops[:2]), [Image.fromarray(crops[0])], write_clip(tmp_path / "in.mp4", num_frames=4)]
    alone = [restore(pipe, video, aligned=True) for video in videos]
    output = pipe(videos, aligned=True, strength=1.0)
    assert [len(frames) for frames in output.frames] == [3, 2, 1, 4]
    assert output.tracks == [[], [], [], []]
    arrays = pipe(videos, **ALIGNED).frames
    for images, array, expected in zip(output.frames, arrays, alone, strict=True):
        np.testing.assert_array_equal(np.stack([np.array(image) for image in images]), expected)
        np.testing.assert_array_equal(to_uint8(array[None]), expected)
    batch = pipe(np.stack([crops, crops[::-1]]), aligned=True, output_type="pt").frames
    assert batch.shape == (2, 3, 3, SIZE, SIZE)
    with pytest.raises(ValueError, match="The batch contains no videos"):
        pipe(np.zeros((0, 3, SIZE, SIZE, 3), np.uint8), aligned=True)
    with pytest.raises(ValueError, match="Frame 0 must be a PIL image"):
        pipe([[crops, crops]], aligned=True)


def test_every_video_of_a_batch_has_its_own_tracks(make_pipe, frames):
    output = make_pipe(*[ONE] * len(frames))([frames, frames], output_type="np")
    assert [len(tracks) for tracks in output.tracks] == [1, 1]
    np.testing.assert_array_equal(*output.frames)


def test_aligned_crops_are_resized_to_the_size_of_the_model(make_pipe, crops):
    small = make_clip(2, 32, 32)
    assert restore(make_pipe(), small, aligned=True).shape == (2, SIZE, SIZE, 3)
    # With strength 0 the result is the enlarged input.
    enlarged = restore(make_pipe(), small, aligned=True, strength=0)
    corners = enlarged[:, :: SIZE - 1, :: SIZE - 1]
    np.testing.assert_array_equal(corners, small[:, ::31, ::31])
    assert make_pipe()(crops[:2], aligned=True).tracks == []


# Options and faces


def test_fidelity_changes_the_face(make_pipe, crops):
    video = crops[:3]
    free, close = (restore(make_pipe(), video, aligned=True, fidelity=value) for value in (0, 1))
    assert changed(free, close).mean() > 0.5
    # The setting of the pipeline is the default of its calls.
    np.testing.assert_array_equal(restore(make_pipe(fidelity=0.0), video, aligned=True), free)
    np.testing.assert_array_equal(restore(make_pipe(), video, aligned=True), close)


def test_a_video_without_faces_is_unchanged(make_pipe, frames):
    pipe = make_pipe(*[NO_FACES] * len(frames))
    output = pipe(frames, output_type="np")
    np.testing.assert_array_equal(to_uint8(output.frames), frames)
    assert output.tracks == []


def test_a_frame_without_a_face_is_unchanged(make_pipe):
    video = make_clip(12, 168, 112)
    restored = restore(make_pipe(*[NO_FACES] * 5, *[ONE] * 4, *[NO_FACES] * 3), video)
    assert changed(video, restored).any(axis=(1, 2)).tolist() == [False] * 5 + [True] * 4 + [False] * 3


def test_a_video_of_one_frame(make_pipe, frames):
    restored = restore(make_pipe(ONE), frames[:1])
    assert restored.shape == (1, 112, 168, 3)
    assert changed(frames[:1], restored).any()


def test_only_the_largest_face_is_restored(make_pipe, frames):
    clip = [make_faces((0, 0, 48), (72, 16, 90))] * len(frames)
    output = make_pipe(*clip)(frames, faces="largest", strength=1.0, output_type="np")
    assert len(output.tracks) == 1
    difference = changed(frames, to_uint8(output.frames))
    assert not difference[:, :48, :48].any()
    assert difference[:, 32:90, 90:150].any()


def test_small_faces_are_unchanged(make_pipe, frames):
    clip = [make_faces((0, 0, 48), (72, 16, 90))] * len(frames)
    difference = changed(frames, restore(make_pipe(*clip), frames, min_face_size=60))
    assert not difference[:, :48, :48].any()
    assert difference[:, 32:90, 90:150].any()
    assert changed(frames, restore(make_pipe(*clip), frames, min_face_size=48))[:, :48, :48].any()


def test_follow_finds_the_faces_that_a_call_restores(make_pipe, frames, tmp_path):
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


def test_the_result_is_deterministic(make_pipe, frames):
    clip = [TWO] * len(frames)
    results = [restore(make_pipe(*clip), frames) for _ in range(2)]
    np.testing.assert_array_equal(*results)


# Components


def test_hooks_are_freed_after_an_exception_and_after_a_stream(make_pipe, frames, crops):
    pipe = make_pipe(*[ONE] * len(frames))
    freed = []
    pipe.maybe_free_model_hooks = lambda: freed.append(True)

    def fail(frame):
        raise RuntimeError("background failed")

    with pytest.raises(RuntimeError, match="background failed"):
        pipe(frames, upscale=2, background=fail)
    assert freed
    freed.clear()
    stream = pipe.stream(aligned=True)
    stream.step(crops)
    stream.flush()
    assert freed


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
    # `reset_attention_backend` leaves the last one as the default of the process: end with the usual one.
    for backend in ("_native_math", "native"):
        vq.set_attention_backend(backend)
        results.append(restore(pipe, crops[:3], aligned=True).astype(int))
    vq.reset_attention_backend()
    assert np.abs(results[0] - results[1]).max() <= 1


def test_the_progress_bar_can_be_disabled(make_pipe, crops, capsys):
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
