"""The detector with the packaged weights, on real images, and compared with YuNet on degraded videos."""

import json

import av
import cv2
import numpy as np
import pytest
import skimage.data
import torch

from benchmarks.detector import count_people
from benchmarks.faceless_videos import KINDS, draw_video
from keep_hf.faces.detector import FaceDetector
from keep_hf.faces.detector_parts.close_ups import MIRRORED_ORDER, cut_aligned, to_frame
from keep_hf.faces.yunet import YuNet
from paths import REPOSITORY, SHARED


PACKAGED = REPOSITORY / "src" / "keep_hf" / "checkpoints" / "keep-tiny" / "detector"
YUNET_FILE = SHARED / "weights" / "yunet_n_dynamic.onnx"
needs_yunet = pytest.mark.skipif(not YUNET_FILE.exists(), reason="the YuNet file of ../shared is missing")
# Errors of the packaged weights, in distances of the eyes; a wrong landmark has an error of 0.5 and more.
CLEAR, DEGRADED = 0.15, 0.25
# From YuNet, the median over three sizes and their mirror images; the eyes are 42 px apart.
ASTRONAUT = np.array([(204.0, 104.2), (246.2, 105.3), (223.0, 128.2), (204.1, 142.6), (242.3, 144.3)])


@pytest.fixture(scope="module")
def astronaut():
    return skimage.data.astronaut()


@pytest.fixture(scope="module")
def detector():
    return FaceDetector.from_pretrained(PACKAGED)


def landmark_error(found, expected):
    """Mean distance of the points, in distances of the eyes."""
    return np.linalg.norm(found - expected, axis=-1).mean() / np.linalg.norm(expected[1] - expected[0])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"block_out_channels": (16, 32)}, r"5 block_out_channels .* got \(16, 32\) and"),
        ({"close_up_channels": (16, 32)}, r"4 close_up_channels, got .* and \(16, 32\)"),
        ({"close_up_size": 90}, "close_up_size must be a multiple of 16, got 90"),
    ],
)
def test_settings_that_no_detector_has(settings, message):
    with pytest.raises(ValueError, match=message):
        FaceDetector(**settings)


def test_a_face_is_found(detector, astronaut):
    (faces,) = detector.detect([astronaut])
    assert len(faces) == 1
    assert landmark_error(faces.landmarks[0], ASTRONAUT) < CLEAR
    left_top, right_bottom = faces.boxes[0].reshape(2, 2)
    assert np.all(left_top < ASTRONAUT.min(axis=0))
    assert np.all(ASTRONAUT.max(axis=0) < right_bottom)
    assert right_bottom[0] - left_top[0] < 150
    assert faces.boxes.dtype == faces.landmarks.dtype == faces.scores.dtype == np.float32


def test_landmarks_of_a_mirrored_face_keep_their_order(detector, astronaut):
    (faces,) = detector.detect([np.ascontiguousarray(astronaut[:, ::-1])])
    mirrored = (ASTRONAUT * (-1, 1) + (511, 0))[[1, 0, 2, 4, 3]]
    assert landmark_error(faces.landmarks[0], mirrored) < CLEAR


@pytest.mark.parametrize("side", [80, 250])
def test_far_and_near_face_in_a_large_frame(detector, astronaut, side):
    scale = side / 110
    image = cv2.resize(astronaut, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)[:1080]
    frame = cv2.resize(astronaut[300:500, 300:500], (1920, 1080)) // 2
    frame[: len(image), 600 : 600 + image.shape[1]] = image
    (faces,) = detector.detect([frame])
    assert len(faces) == 1
    assert landmark_error(faces.landmarks[0], (ASTRONAUT + 0.5) * scale - 0.5 + (600, 0)) < CLEAR


def test_face_that_fills_the_frame(detector, astronaut):
    close = cv2.resize(astronaut[50:185, 155:290], (128, 128), interpolation=cv2.INTER_AREA)
    (faces,) = detector.detect([close])
    assert len(faces) == 1
    assert landmark_error(faces.landmarks[0], (ASTRONAUT - (155, 50) + 0.5) * 128 / 135 - 0.5) < CLEAR


def test_degraded_face_is_found(detector, astronaut):
    small = cv2.resize(astronaut, (128, 128), interpolation=cv2.INTER_AREA)
    coded = cv2.imdecode(cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, 25])[1], cv2.IMREAD_COLOR)
    (faces,) = detector.detect([cv2.resize(coded, (512, 512))])
    assert len(faces) == 1
    assert landmark_error(faces.landmarks[0], ASTRONAUT) < DEGRADED


@pytest.mark.parametrize("side", [64, 128, 192, 256, 384, 512])
def test_grey_face_is_found(detector, astronaut, side):
    grey = cv2.cvtColor(cv2.cvtColor(astronaut, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    (faces,) = detector.detect([cv2.resize(grey[:300, 80:380], (side, side), interpolation=cv2.INTER_AREA)])
    assert len(faces) == 1
    expected = (ASTRONAUT - (80, 0) + 0.5) * side / 300 - 0.5
    assert landmark_error(faces.landmarks[0], expected) < CLEAR


def test_frames_of_several_sizes_are_one_batch(detector, astronaut):
    frames = [astronaut, astronaut[:400, :330], np.zeros((1080, 1920, 3), np.uint8)]
    together = detector.detect(frames)
    alone = [detector.detect([frame])[0] for frame in frames]
    assert [len(faces) for faces in together] == [1, 1, 0]
    for a, b in zip(together, alone, strict=True):
        np.testing.assert_allclose(a.landmarks, b.landmarks, atol=0.3)
    assert detector.detect([]) == []


def test_no_face_in_texture(detector):
    rng = np.random.default_rng(0)
    images = [np.full((300, 400, 3), 90, np.uint8), rng.integers(0, 256, (300, 400, 3), dtype=np.uint8)]
    images += [skimage.data.coffee(), skimage.data.rocket()]
    assert [len(faces) for faces in detector.detect(images)] == [0, 0, 0, 0]


def test_no_people_in_drawn_videos(detector):
    people = [count_people(draw_video(number, 8), detector) for number in range(len(KINDS))]
    assert people == [0] * len(KINDS)


def test_a_box_whose_close_up_shows_no_face_is_rejected(astronaut):
    detector = FaceDetector.from_pretrained(PACKAGED)
    with torch.no_grad():
        detector.close_up_network[-1].bias[10] = -100
    assert len(detector.detect([astronaut])[0]) == 0


def test_a_face_that_the_second_close_up_does_not_show_is_rejected(astronaut):
    detector = FaceDetector.from_pretrained(PACKAGED)
    with torch.no_grad():
        detector.refinement_network[-1].bias[10] = -100
    assert len(detector.detect([astronaut])[0]) == 0


def test_the_second_close_up_improves_the_landmarks(detector, astronaut):
    """At several sizes and angles, where the first network is less certain than in the upright portrait."""
    plain = make_detector_without_refinement(detector)
    errors: dict[FaceDetector, list[float]] = {detector: [], plain: []}
    for angle in (-25, 0, 25):
        for scale in (0.3, 0.8):
            matrix = cv2.getRotationMatrix2D((220, 120), angle, scale)
            frame = cv2.warpAffine(astronaut, matrix, (512, 512), flags=cv2.INTER_AREA)
            for each, values in errors.items():
                (faces,) = each.detect([frame])
                values.append(landmark_error(faces.landmarks[0], ASTRONAUT @ matrix[:, :2].T + matrix[:, 2]))
    assert np.mean(errors[detector]) < 0.9 * np.mean(errors[plain])


def test_the_last_close_up_is_aligned_by_the_landmarks_of_the_one_before(detector, astronaut, monkeypatch):
    aligned_by = []

    def record(frame, landmarks, size):
        aligned_by.append(landmarks)
        return cut_aligned(frame, landmarks, size)

    monkeypatch.setattr("keep_hf.faces.detector.cut_aligned", record)
    (faces,) = detector.detect([astronaut])
    # Those of the candidates come first, then that of the face that is left.
    refined, placed = (read_aligned(detector, astronaut, landmarks) for landmarks in (aligned_by[0], aligned_by[-1]))
    np.testing.assert_allclose(aligned_by[-1], refined, atol=1e-3)
    np.testing.assert_allclose(faces.landmarks[0], placed, atol=1e-3)
    assert abs(placed - refined).max() > 0.01


def read_aligned(detector: FaceDetector, frame: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
    """The landmarks that the refinement network reads in a close-up aligned by others."""
    close_up, matrix = cut_aligned(frame, landmarks, detector.config.close_up_size)
    images = np.stack([close_up, close_up[:, ::-1]]).transpose(0, 3, 1, 2)
    with torch.no_grad():
        points = detector.refinement_network(torch.from_numpy(images / np.float32(127.5) - 1))[:, :10]
    plain, mirrored = points.reshape(2, 5, 2).numpy()
    return to_frame((plain + mirrored[MIRRORED_ORDER] * (-1, 1)) / 2, matrix, len(close_up))


def make_detector_without_refinement(detector: FaceDetector) -> FaceDetector:
    plain = FaceDetector.from_config(detector.config, refinement=False).eval()
    weights = {name: value for name, value in detector.state_dict().items() if not name.startswith("refinement")}
    plain.load_state_dict(weights)
    return plain


def test_a_detector_that_was_saved_before_there_was_a_refinement_still_works(detector, astronaut, tmp_path):
    make_detector_without_refinement(detector).save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    del config["refinement"]
    (tmp_path / "config.json").write_text(json.dumps(config))
    old = FaceDetector.from_pretrained(tmp_path)
    assert old.refinement_network is None
    (faces,) = old.detect([astronaut])
    assert len(faces) == 1
    assert landmark_error(faces.landmarks[0], ASTRONAUT) < CLEAR


def test_both_built_in_checkpoints_have_the_same_detector():
    other = PACKAGED.parents[1] / "keep-small" / "detector"
    for name in ("config.json", "diffusion_pytorch_model.safetensors"):
        assert (PACKAGED / name).read_bytes() == (other / name).read_bytes()


def test_packaged_weights_are_small_and_load_in_float32(detector, tmp_path):
    file = PACKAGED / "diffusion_pytorch_model.safetensors"
    assert file.stat().st_size < 1.5e6
    assert detector.dtype == torch.float32
    assert not detector.training
    detector.save_pretrained(tmp_path)
    again = FaceDetector.from_pretrained(tmp_path)
    for name, tensor in detector.state_dict().items():
        assert torch.equal(tensor, again.state_dict()[name])


def test_cells_are_the_positions_of_the_feature_maps():
    """With a head that outputs zeros, the box of every cell is centred on it and four strides wide."""
    detector = FaceDetector(block_out_channels=(4, 4, 4, 4, 4), neck_channels=4, close_up_channels=(4, 4, 4, 4)).eval()
    torch.nn.init.zeros_(detector.head[-1].weight)
    logits, boxes = detector(torch.zeros(2, 3, 64, 96), return_dict=False)
    cells = detector.cells(64, 96)
    assert logits.shape == (2, len(cells)) == (2, 8 * 12 + 4 * 6 + 2 * 3)
    assert cells[1].tolist() == [11.5, 3.5, 8]
    assert cells[12].tolist() == [3.5, 11.5, 8]
    assert cells[96].tolist() == [7.5, 7.5, 16]
    assert cells[-1].tolist() == [79.5, 47.5, 32]
    torch.testing.assert_close(
        boxes[1], torch.cat([cells[:, :2] - 2 * cells[:, 2:], cells[:, :2] + 2 * cells[:, 2:]], 1)
    )


@needs_yunet
@pytest.mark.parametrize("name", ["keep_real_1", "keep_real_2", "keep_real_3", "keep_real_4", "svfr_lq2"])
def test_degraded_videos_agree_with_yunet(detector, name):
    file = SHARED / "media" / "lq" / f"{name}.mp4"
    if not file.exists():
        pytest.skip(f"{file.name} of ../shared is missing")
    with av.open(str(file)) as container:
        frames = [
            frame.to_ndarray(format="rgb24") for _, frame in zip(range(41), container.decode(video=0), strict=False)
        ]
    frames = frames[::10]
    errors = []
    for found, expected in zip(detector.detect(frames), YuNet.from_pretrained(YUNET_FILE).detect(frames), strict=True):
        main = np.argmax(np.prod(expected.boxes[:, 2:] - expected.boxes[:, :2], axis=1))
        errors.append(min(landmark_error(points, expected.landmarks[main]) for points in found.landmarks))
    # The landmarks of YuNet differ by 4 to 6 % between two sizes of the same image.
    assert np.mean(errors) < DEGRADED
