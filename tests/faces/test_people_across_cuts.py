"""The same person in several scenes has one number; selection by it; numbers do not change what is restored."""

import io

import cv2
import numpy as np
import pytest
import torch

from benchmarks.recognition import FRAME_RATE, count_entries, make_cuts, read_portraits
from conftest import KnownFaces, make_faces
from keep_hf import KeepPipeline
from keep_hf.faces.follower import HORIZONS, FaceFollower
from keep_hf.faces.identity import FaceIdentity
from keep_hf.restoration.state import pack, unpack
from paths import SHARED
from stand_ins import Angle


LENGTH = 20
FACE = make_faces((24, 16, 64))
# The network of the tests measures the mean level. Scenes 0 and 2 show one person in another light and colour, scenes
# 1 and 3 another person, who looks the same in both.
SCENES = [(0, 60), (1, 170), (2, 70), (1, 170)]
NUMBERS = {None: [0, 1, 2, 1], "identity": [0, 1, 0, 1]}


def make_scene(seed: int, level: int) -> list[np.ndarray]:
    random = np.random.default_rng(seed)
    pattern = cv2.resize(random.integers(-40, 41, (6, 6, 3)).astype(np.float32), (128, 96))
    images = [
        level + np.roll(pattern, index % 2, axis=1) + random.normal(0, 1, pattern.shape) for index in range(LENGTH)
    ]
    return [np.clip(image, 0, 255).astype(np.uint8) for image in images]


IMAGES = [image for scene in SCENES for image in make_scene(*scene)]


@pytest.fixture(params=NUMBERS)
def network(request) -> str | None:
    return request.param


def follow(follower: FaceFollower, images: list[np.ndarray]) -> list[int]:
    """The number of the only person in each frame."""
    frames = [frame for image in images for frame in follower.step(image)] + follower.flush()
    return [face.track_id for frame in frames for face in frame.faces]


def new_follower(network: str | None, latency: str = "normal") -> FaceFollower:
    identity = Angle() if network else None
    return FaceFollower(KnownFaces([FACE]), 25.0, horizon=HORIZONS[latency], identity=identity)


@pytest.mark.parametrize("latency", HORIZONS)
def test_a_person_keeps_the_number_in_later_scenes(network, latency):
    expected = [number for number in NUMBERS[network] for _ in range(LENGTH)]
    assert follow(new_follower(network, latency), IMAGES) == expected


@pytest.mark.parametrize("stop", [1, 25, 45, 62])
def test_numbers_are_the_same_after_a_resume(network, stop):
    first = new_follower(network)
    numbers = [face.track_id for image in IMAGES[:stop] for frame in first.step(image) for face in frame.faces]
    file = io.BytesIO()
    torch.save(pack(first.state_dict()), file)
    file.seek(0)
    second = new_follower(network)
    state = unpack(torch.load(file, weights_only=True), torch.device("cpu"))
    second.load_state_dict(state, {index: IMAGES[index] for index in range(first.num_out, stop)})
    assert numbers + follow(second, IMAGES[stop:]) == follow(new_follower(network), IMAGES)


def test_a_person_is_one_entry_with_all_appearances(make_pipe, network):
    pipe = make_pipe(FACE, identity=Angle() if network else None)
    tracks = pipe.follow(IMAGES)
    assert [track.track_id for track in tracks] == sorted(set(NUMBERS[network]))
    assert tracks[1].appearances() == [(20, 39), (60, 79)]
    assert tracks[1].appearances(longest_gap=20) == [(20, 79)]
    stream = pipe.stream()
    list(stream.restore(IMAGES))
    report = stream.report()
    assert report["recognized_by"] == (network or "appearance")
    assert [track["id"] for track in report["tracks"]] == [track.track_id for track in tracks]
    assert report["tracks"][1]["appearances"] == [[20, 39], [60, 79]]


def test_the_number_of_a_person_selects_all_scenes_and_changes_no_pixel(make_pipe):
    pipe = make_pipe(FACE, identity=Angle())

    def restore(images: list[np.ndarray], **options) -> np.ndarray:
        pipe.detector.num_seen = 0
        return np.array([frame.image for frame in pipe.stream(strength=1.0, **options).restore(images)])

    everyone = restore(IMAGES)
    selected = restore(IMAGES, faces=[0])
    for scene, number in enumerate(NUMBERS["identity"]):
        part = slice(scene * LENGTH, (scene + 1) * LENGTH)
        assert (everyone[part] != np.array(IMAGES[part])).any()
        np.testing.assert_array_equal(selected[part], everyone[part] if number == 0 else IMAGES[part])
        np.testing.assert_array_equal(restore(IMAGES[part]), everyone[part])


PORTRAITS = SHARED / "media" / "train_faces"
MODEL = SHARED / "weights" / "MobileFaceNet.onnx"


@pytest.mark.skipif(not PORTRAITS.is_dir(), reason="the portraits of ../shared are missing")
@pytest.mark.parametrize("network", [None, "identity"])
def test_ten_people_in_thirty_scenes(network):
    if network and not MODEL.is_file():
        pytest.skip("MobileFaceNet.onnx of ../shared is missing")
    identity = FaceIdentity.from_pretrained(MODEL) if network else None
    images, order = make_cuts([image for image, _ in read_portraits(PORTRAITS, 10, seed=0)], times=3, seed=0)
    detector = KeepPipeline.from_pretrained("keep-tiny").detector
    entries, mixed = count_entries(FaceFollower(detector, FRAME_RATE, identity=identity).tracks(images), order)
    assert mixed == 0
    assert entries == 10 if network else 10 <= entries <= 30
