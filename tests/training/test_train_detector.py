"""Training of the face detector: labels of a teacher, examples, the loss, and a run of a few steps."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from keep_hf import FaceDetector
from media import write_clip
from paths import REPOSITORY
from portraits import HEAD_LANDMARKS, write_labelled_portraits
from training.data.detector_examples import DetectorExamples, make_close_up, make_mosaic, make_wrong_close_up
from training.data.faceless import make_empty, turn_portrait
from training.data.images import read_image
from training.data.teacher_labels import Portrait, label_drawn_people, label_portraits
from training.mine_errors import find_errors
from training.mine_errors import main as mine_errors
from training.preparation.detectors import load_detector
from training.train_detector import close_up_loss, main, search_loss
from training_runs import train_and_resume


pytestmark = pytest.mark.slow


# The packaged detector is the teacher, because YuNet cannot be part of the repository.
TEACHER = str(REPOSITORY / "src/keep_hf/checkpoints/keep-tiny/detector")
EYE_DISTANCE = 44


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Two portraits, a video of one, and an image without a face."""
    folder = write_labelled_portraits(tmp_path_factory.mktemp("portraits"), scales=(1, 1))
    write_clip(folder / "video.mp4", images=[read_image(folder / "0.png")] * 4)
    write_clip(folder / "no_face.mp4", num_frames=2)
    return folder


@pytest.fixture(scope="module")
def portraits(folder) -> list[Portrait]:
    return label_portraits([str(folder)], load_detector(TEACHER), frames_per_video=2)


def test_faces_are_labelled_and_the_rest_is_left_out(portraits, tmp_path):
    assert len(portraits) == 2 + 2  # the images, and two frames of the video
    error = np.linalg.norm(portraits[0].landmarks - HEAD_LANDMARKS, axis=1).mean()
    assert error < 0.15 * EYE_DISTANCE
    mirrored = np.linalg.norm(portraits[0].mirrored().landmarks - portraits[1].landmarks, axis=1).mean()
    assert mirrored < 0.05 * EYE_DISTANCE
    write_clip(tmp_path / "no_face.mp4", num_frames=2)
    with pytest.raises(ValueError, match="no image or video frame with exactly one face"):
        label_portraits([str(tmp_path)], load_detector(TEACHER), frames_per_video=2)


def test_a_folder_without_anything_to_label_is_named(folder, tmp_path):
    (tmp_path / "shard-00000.tar").touch()
    with pytest.raises(ValueError, match=f"^{tmp_path} has no images or videos"):
        label_portraits([str(folder), str(tmp_path)], load_detector(TEACHER), frames_per_video=2)


def test_the_teacher_finds_the_faces_of_mosaics_and_close_ups(portraits, monkeypatch):
    monkeypatch.setattr("training.data.detector_examples.degrade", lambda rng, image, smallest: image)
    teacher, rng = load_detector(TEACHER), np.random.default_rng(0)
    expected = found = 0
    for _ in range(60):
        mosaic, boxes = make_mosaic(rng, portraits, [], size=256)
        assert mosaic.shape == (256, 256, 3)
        assert len(boxes) <= 5
        (faces,) = teacher.detect([mosaic])
        centres = faces.boxes.reshape(-1, 2, 2).mean(axis=1)
        for box in boxes:
            centre, side = box.reshape(2, 2).mean(axis=0), np.sqrt(np.prod(box[2:] - box[:2]))
            if side > 40 and (box[:2] > 0).all() and (box[2:] < 256).all():
                expected += 1
                found += bool((np.abs(centres - centre).max(axis=1) < 0.3 * side).any())
    assert expected > 10
    assert found > 0.8 * expected

    for _ in range(5):
        image, landmarks = make_close_up(rng, portraits, size=96)
        with torch.no_grad():
            images = torch.from_numpy(image).permute(2, 0, 1)[None] / 127.5 - 1
            predicted = teacher.close_up_network(images)[:, :10].view(5, 2).numpy()
        assert np.abs(predicted - landmarks).max() < 0.08


def test_examples_depend_on_seed_epoch_and_index_only(portraits):
    examples, again = (DetectorExamples(portraits, [], 64, close_ups=2, close_up_size=96, seed=0) for _ in range(2))
    first = examples[7]
    assert {name: tuple(value.shape) for name, value in first.items()} == {
        "mosaic": (3, 64, 64),
        "boxes": (5, 4),
        "close_ups": (2, 3, 96, 96),
        "landmarks": (2, 5, 2),
        "is_face": (2,),
    }
    examples[8]
    assert all(torch.equal(first[name], again[7][name]) for name in first)
    again.epoch = 1
    assert not torch.equal(first["mosaic"], again[7]["mosaic"])


def test_the_teacher_finds_no_face_in_images_without_one(portraits):
    teacher, rng = load_detector(TEACHER), np.random.default_rng(0)
    errors = [np.full((40, 50, 3), 200, np.uint8)]
    images = [make_empty(rng, portraits, errors, 160) for _ in range(40)]
    images += [make_wrong_close_up(rng, portraits, errors, 160) for _ in range(2)]
    images += [turn_portrait(rng, portraits[0], 160) for _ in range(2)]
    assert {image.shape for image in images} == {(160, 160, 3)}
    assert sum(len(faces) > 0 for faces in teacher.detect(images[:40])) <= 4


def test_the_drawn_people_of_the_package_are_faces():
    assert len({portrait.landmarks.tobytes() for portrait in label_drawn_people(load_detector(TEACHER))}) == 3


def test_the_surroundings_of_false_faces_are_saved(folder, tmp_path):
    detector, rng = load_detector(TEACHER), np.random.default_rng(0)
    image = read_image(folder / "0.png")
    assert find_errors(rng, [image], detector, teacher=detector) == []
    blind = FaceDetector.from_pretrained(TEACHER, threshold=1.0)
    (error,) = find_errors(rng, [image], detector, teacher=blind)
    side = np.ptp(detector.detect([image])[0].boxes.reshape(2, 2), axis=0).max()
    assert side < max(error.shape) < 2.3 * side
    sources = ["--detector", TEACHER, "--data", str(folder), "--teacher", TEACHER]
    mine_errors([*sources, "--output", str(tmp_path / "errors"), "--images", "16", "--frames-per-video", "1"])
    assert all(path.suffix == ".png" for path in (tmp_path / "errors").iterdir())


def test_images_of_an_earlier_run_with_the_same_seed_are_not_overwritten(tmp_path, capsys):
    (tmp_path / "03_00000.png").touch()
    with pytest.raises(SystemExit):
        mine_errors(
            ["--detector", TEACHER, "--data", "none", "--teacher", TEACHER, "--output", str(tmp_path), "--seed", "3"]
        )
    assert "has images of --seed 3 already: choose another seed or folder" in capsys.readouterr().err


def test_the_loss_of_close_ups_ignores_the_landmarks_where_there_is_no_face():
    is_face, landmarks = torch.tensor([1.0, 0.0]), torch.zeros(2, 5, 2)
    good = torch.zeros(2, 11)
    good[0, 10], good[1, 10] = 9, -9
    good[1, :10] = 5
    check_loss, landmark_loss = close_up_loss(good, is_face, landmarks)
    assert check_loss < 1e-3
    assert landmark_loss == 0
    bad = -good
    bad[0, :10] = 0.1
    check_loss, landmark_loss = close_up_loss(bad, is_face, landmarks)
    assert check_loss > 5
    assert landmark_loss == pytest.approx(0.1)


def test_the_loss_is_small_for_the_true_boxes_and_confident_scores():
    cells = FaceDetector().cells(64, 64)
    boxes = torch.zeros(1, 5, 4)
    boxes[0, 0] = torch.tensor([10.0, 12.0, 50.0, 60.0])
    centre, side = torch.tensor([30.0, 36.0]), (40 * 48) ** 0.5
    on_face = ((cells[:, :2] - centre).abs().amax(1) < 0.1 * side) & (cells[:, 2] == 8)
    far = (cells[:, :2] - centre).abs().amax(1) > 0.5 * side
    assert on_face.any()
    assert far.any()
    predicted = boxes[0, 0].expand(1, len(cells), 4)
    good_scores = torch.where(on_face, 9.0, -9.0)[None]
    bad_scores = torch.where(far, 9.0, -9.0)[None]
    score_loss, box_loss = search_loss(good_scores, predicted, cells, boxes)
    assert box_loss == 0
    assert search_loss(bad_scores, predicted, cells, boxes)[0] > 10 * score_loss
    assert search_loss(good_scores, predicted + side / 10, cells, boxes)[1] == pytest.approx(0.1, rel=1e-3)
    # Without a face, every cell should say so.
    nothing = torch.zeros(1, 5, 4)
    score_loss, box_loss = search_loss(torch.full((1, len(cells)), -9.0), predicted, cells, nothing)
    assert score_loss < 1e-3
    assert box_loss == 0


def test_the_detector_is_trained_and_a_resumed_run_has_the_same_bits(folder, tmp_path):
    arguments = ["--data", folder, "--validation", folder, "--teacher", TEACHER, "--mosaic-size", 64]
    run = train_and_resume(main, tmp_path, *arguments, "--batch-size", 2, "--frames-per-video", 1)
    log = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    assert {"score loss", "box loss", "landmark loss", "gradient norm"} <= set(log[0])
    assert [line["step"] for line in log if "validation loss" in line] == [2, 3]
    saved = load_file(run / "detector/diffusion_pytorch_model.safetensors")
    assert {value.dtype for value in saved.values() if value.is_floating_point()} == {torch.float16}
    trained = load_detector(str(run / "detector"))
    assert isinstance(trained, FaceDetector)
    assert (trained.config["search_threshold"], trained.config["threshold"]) == (0.5, 0.9)


def test_wrong_sizes_are_reported(capsys):
    with pytest.raises(SystemExit):
        main(["--data", "x", "--output", "y", "--teacher", "z", "--steps", "1", "--mosaic-size", "100"])
    assert "--mosaic-size must be a multiple of 32, got 100" in capsys.readouterr().err
