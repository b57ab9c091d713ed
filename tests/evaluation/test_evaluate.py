"""Whole videos and everybody in them, measured: made films with known faces, and the command on a real face."""

import gc
import json
import math
import weakref
from pathlib import Path

import cv2
import numpy as np
import pytest
import skimage.data
import torch

from conftest import KnownFaces, make_clip, make_faces
from keep_hf import Faces
from keep_hf.cli import main
from keep_hf.evaluation.dis_flow import DISFlow
from keep_hf.evaluation.evaluate import Networks, Run, evaluate_video, share_out
from keep_hf.evaluation.pairs import VideoPair
from keep_hf.evaluation.report import Report
from keep_hf.evaluation.series import COMPARED, INSPECTED
from keep_hf.models.lpips import LPIPS
from media import write_clip
from paths import SHARED
from people import write_lossless


WEIGHTS = SHARED / "weights"
needs_weights = pytest.mark.skipif(
    not (WEIGHTS / "pfld.onnx").is_file(), reason="the face networks of ../shared/weights are missing"
)
FACE_OPTIONS = ["--identity", WEIGHTS / "MobileFaceNet.onnx", "--landmarks", WEIGHTS / "pfld.onnx"]


class Angle:
    """Stands in for an identity network: the mean level of a face is an angle in degrees."""

    def embed(self, faces):
        angles = np.radians([face.mean() for face in faces])
        return np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)


def moving_portrait(num_frames: int) -> list[np.ndarray]:
    """A full frame in which a real face moves: 224 x 176, the face about 70 pixels."""
    portrait = skimage.data.astronaut()
    return [portrait[20 + t : 196 + t, 110 + 2 * t : 334 + 2 * t].copy() for t in range(num_frames)]


def blurred(images: list[np.ndarray]) -> list[np.ndarray]:
    noise = np.random.default_rng(0)
    return [
        np.clip(cv2.GaussianBlur(image, (0, 0), 1.5) + noise.normal(0, 6, image.shape), 0, 255).astype(np.uint8)
        for image in images
    ]


@pytest.fixture(scope="module")
def videos(tmp_path_factory) -> dict[str, Path]:
    """A face that moves, sharp and degraded; both lossless."""
    folder = tmp_path_factory.mktemp("videos")
    sharp = moving_portrait(6)
    return {
        "sharp": write_lossless(folder / "sharp.mkv", np.stack(sharp)),
        "degraded": write_lossless(folder / "degraded.mkv", np.stack(blurred(sharp))),
        "short": write_lossless(folder / "short.mkv", np.stack(sharp[:4])),
        "small": write_clip(folder / "small.mp4", images=[image[::2, ::2] for image in sharp]),
    }


@pytest.fixture(scope="module")
def lpips_folder(tmp_path_factory) -> Path:
    """LPIPS with weights by chance."""
    torch.manual_seed(0)
    network = LPIPS("alex").eval()
    with torch.no_grad():
        for weights in network.channel_weights:
            weights.weight.abs_()
    folder = tmp_path_factory.mktemp("lpips")
    network.save_pretrained(folder)
    return folder


def run(*arguments) -> int:
    return main(["evaluate", *map(str, arguments)])


def fails(capsys, *arguments) -> str:
    """The one line with which the command fails."""
    capsys.readouterr()
    assert run(*arguments) == 1
    out, err = capsys.readouterr()
    lines = err.splitlines()
    assert out == "" and len(lines) == 1 and lines[0].startswith("keep-hf: "), (out, lines)
    return lines[0]


def tables(text: str) -> dict[str, dict[str, dict[str, str]]]:
    """Markdown -> by the line above a table and the name of its row: cells by their heads."""
    found: dict[str, dict[str, dict[str, str]]] = {}
    title = ""
    for block in text.split("\n\n"):
        lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in block.splitlines()]
        if block.startswith("|"):
            found[title] = {row[0]: dict(zip(lines[0], row, strict=True)) for row in lines[2:]}
        title = block.strip()
    return found


# Made films: who, where and when is known


def two_people(num_frames: int) -> tuple[np.ndarray, np.ndarray, KnownFaces]:
    """A film with two faces, of which the restored one has the first brighter by 10."""
    truth = make_clip(num_frames, 240, 120).clip(0, 200)
    restored = truth.copy()
    restored[:, :, :120] += 10
    return restored, truth, KnownFaces([make_faces((28, 20, 64), (148, 20, 64))] * num_frames)


def test_everybody_is_measured_with_the_same_crops(tmp_path):
    restored, truth, detector = two_people(6)
    pair = VideoPair(write_lossless(tmp_path / "a.mkv", restored), write_lossless(tmp_path / "b.mkv", truth))
    found = evaluate_video(pair, Networks(identity=Angle(), flow=DISFlow()), detector, name="film")
    assert (found.num_frames, found.scenes, [person.name for person in found.people]) == (6, [0], ["0", "1"])
    by_side = {person.join().measures["psnr"].mean == math.inf: person.join() for person in found.people}
    changed, same = by_side[False].measures, by_side[True].measures
    # Mean squares of 10² in one face, of none in the other, and of half of 10² in the frame
    assert changed["psnr"].mean == pytest.approx(10 * math.log10(255**2 / 100), abs=1e-3)
    assert found.frames.mean["psnr"] == pytest.approx(10 * math.log10(255**2 / 50), abs=1e-3)
    assert changed["ids"].mean == pytest.approx(math.cos(math.radians(10)), abs=1e-4)
    assert (same["ids"].mean, same["ids"].sigma, same["ssim"].mean) == (
        pytest.approx(1),
        pytest.approx(0, abs=1e-6),
        1,
    )
    # Each person counts the same; whole frames are not taken for faces.
    assert found.faces.num_frames == 12 and found.faces.num_videos == 2
    assert found.faces.mean["ids"] == pytest.approx((1 + math.cos(math.radians(10))) / 2, abs=1e-4)
    assert found.frames.mean["ids"] is None and found.frames.mean["flicker"] is not None
    assert len(changed["flicker"].values) == 5


def test_faces_are_looked_for_in_the_reference(tmp_path):
    restored, truth, _ = two_people(3)
    pair = VideoPair(write_lossless(tmp_path / "a.mkv", restored), write_lossless(tmp_path / "b.mkv", truth))
    shown = []

    class Nobody:
        def detect(self, frames):
            shown.extend(frames)
            return [make_faces() for _ in frames]

    found = evaluate_video(pair, Networks(), Nobody(), name="film")
    np.testing.assert_array_equal(shown, truth)
    assert found.people == [] and found.faces is None and found.profile.person is None
    report = Report([found], COMPARED, Networks().missing(COMPARED), {"faces": "nobody"})
    assert "- film: no face found." in report.to_markdown() and "\nFaces\n" not in report.to_markdown()


def test_neighbours_are_of_one_scene(tmp_path):
    scenes = np.stack([make_clip(1, 96, 64, seed=0)[0] // 2] * 8 + [255 - make_clip(1, 96, 64, seed=1)[0]] * 8)
    pair = VideoPair(write_lossless(tmp_path / "a.mkv", scenes), None)
    found = evaluate_video(pair, Networks(flow=DISFlow()), KnownFaces([make_faces()]), name="film")
    assert found.scenes == [0, 8]
    flicker = found.whole.join().measures["flicker"].values
    assert len(flicker) == 14 and max(flicker) < 0.5
    times, values = found.whole.over_time("flicker")
    assert times.tolist() == [*range(1, 8), 7.5, *range(9, 16), 15.5]
    assert np.isnan(values[[7, 15]]).all() and np.isfinite(values[:7]).all()


def test_an_absence_parts_what_is_measured(tmp_path):
    film = np.stack([make_clip(1, 160, 128)[0]] * 60)
    here, away = make_faces((40, 20, 80)), make_faces()
    detector = KnownFaces([here] * 10 + [away] * 30 + [here] * 20)
    pair = VideoPair(write_lossless(tmp_path / "a.mkv", film), None)
    found = evaluate_video(pair, Networks(identity=Angle()), detector, name="film")
    (person,) = found.people
    assert [(first, run.num_frames) for first, run in person.runs] == [(0, 10), (40, 20)]
    assert person.join().num_frames == 30
    assert len(person.join().measures["identity_steps"].values) == 9 + 19
    assert sorted(found.profile.columns) == [*range(10), *range(40, 60)]


def test_passes_are_as_few_as_people_at_a_time():
    visits = [
        Run(first, person, [np.eye(2, 3)] * length) for first, person, length in ((0, 0, 5), (3, 1, 9), (5, 0, 4))
    ]
    first, second = share_out(visits)
    assert first == [visits[0], visits[2]] and second == [visits[1]]
    assert share_out([]) == []


def test_memory_does_not_grow(tmp_path, monkeypatch):
    """Only the frames of the look-ahead are held; aligned ones need nearly none."""
    film = make_clip(150, 64, 64)
    faces: list[Faces] = [make_faces((8, 8, 48))] * 150
    monkeypatch.setattr("keep_hf.evaluation.metrics.find_spec", lambda name: None)  # no SSIM, which takes its time
    pair = VideoPair(write_lossless(tmp_path / "a.mkv", film), write_lossless(tmp_path / "b.mkv", film))
    alive: weakref.WeakSet = weakref.WeakSet()
    most = 0
    fit = pair._fit

    class Frame(np.ndarray):
        """Can be weakly referred to and hashed."""

        __hash__ = object.__hash__

    def counted(image):
        nonlocal most
        frame = fit(image).view(Frame)
        alive.add(frame)
        most = max(most, len(alive))
        return frame

    monkeypatch.setattr(pair, "_fit", counted)
    gc.disable()
    try:
        evaluate_video(pair, Networks(identity=Angle()), KnownFaces(faces), name="film")
        with_faces, most = most, 0
        pair_of_crops = evaluate_video(pair, Networks(identity=Angle()), None, name="film")
    finally:
        gc.enable()
    assert pair_of_crops.num_frames == 150
    assert with_faces < 60 and most < 20


# The command


@needs_weights
@pytest.mark.parametrize("aligned", [False, True])
def test_a_video_is_equal_to_itself(videos, lpips_folder, tmp_path, capsys, aligned):
    video = write_lossless(tmp_path / "crops.mkv", np.stack(moving_portrait(4))[:, :, :176]) if aligned else None
    video = video or videos["sharp"]
    report = tmp_path / "report.json"
    options = [*FACE_OPTIONS, "--lpips", lpips_folder, "--report", report, *(["--aligned"] if aligned else [])]
    assert run(video, video, *options) == 0
    out, err = capsys.readouterr()
    assert err.strip() == ""
    found = tables(out)
    assert set(found) == ({"Faces"} if aligned else {"Whole frames", "Faces"})
    for row in (found["Faces"][video.stem], found["Faces"]["**Mean**"]):
        told = {head.split(" ")[0]: cell for head, cell in row.items()}
        assert told["PSNR"] == "inf" and told["SSIM"] == told["IDS"] == "1.0000"
        assert float(told["LPIPS"]) == float(told["AKD"]) == float(told["sigma_AKD"]) == float(told["sigma_IDS"]) == 0
        assert told["People"] == "1" and told["Faces"] == ("4" if aligned else "6")
        assert row["Flicker (levels of 255) ↓"] == next(cell for head, cell in row.items() if "of the ref" in head)
    assert "PSNR (dB) ↑" in row and "AKD (pixels at 512) ↓" in row and "Missing" not in out
    content = json.loads(report.read_text())
    assert content["mean"]["faces"]["mean"]["psnr"] == "inf" and content["mean"]["faces"]["mean"]["akd"] == 0
    assert (content["mean"]["frames"] is None) == aligned == (content["videos"][0]["frames"] is None)


@needs_weights
def test_a_degraded_face_is_told_by_every_measure(videos, tmp_path, capsys):
    report = tmp_path / "report.json"
    assert run(videos["degraded"], videos["sharp"], *FACE_OPTIONS, "--report", report) == 0
    out = capsys.readouterr().out
    assert [path.name for path in tmp_path.iterdir()] == ["report.json"]  # no unfinished one beside it
    content = json.loads(report.read_text())
    (video,) = content["videos"]
    assert video["num_frames"] == 6 and video["sources"] == [str(videos[name]) for name in ("degraded", "sharp")]
    assert video["faces"]["num_people"] == 1 and video["faces"]["num_faces"] == 6
    mean, sigma = video["faces"]["mean"], video["faces"]["sigma"]
    assert 20 < mean["psnr"] < 34 and 0.3 < mean["ids"] < 0.99 and 0.3 < mean["akd"] < 20
    assert mean["flicker"] > mean["reference_flicker"] + 1
    assert 0 < sigma["ids"] < 0.2 and 0 < sigma["akd"] < 5
    values = video["people"][0]["measures"]["ids"]["values"]
    assert np.mean(values) == pytest.approx(mean["ids"]) and np.std(values) == pytest.approx(sigma["ids"])
    assert content["measures"]["akd"]["unit"] == "pixels at 512"
    row = tables(out)["Faces"]["degraded"]
    assert row["sigma_IDS (cosine) ↓"] == f"{sigma['ids']:.4f}" and row["PSNR (dB) ↑"] == f"{mean['psnr']:.2f}"
    # LPIPS was not at hand: it is said, and nothing is invented.
    assert "- Missing: LPIPS needs" in out and "--lpips" in out and not any("LPIPS" in head for head in row)
    assert mean["lpips"] is None and "--lpips" in content["measures"]["lpips"]["missing"]


@needs_weights
def test_without_a_reference_it_is_told_how_steady_a_video_is(videos, capsys):
    steady = {}
    for name in ("sharp", "degraded"):
        assert run(videos[name], *FACE_OPTIONS) == 0
        steady[name] = tables(capsys.readouterr().out)["Faces"][name]
        assert not any("PSNR" in head for head in steady[name])
    for head in ("Flicker (levels of 255) ↓", "Landmark jitter (pixels at 512) ↓"):
        assert float(steady["degraded"][head]) > float(steady["sharp"][head])
    assert "Identity jitter (cosine) ↓" in steady["sharp"]


def test_the_json_is_what_was_measured(videos, tmp_path):
    pair = VideoPair(videos["degraded"], videos["sharp"])
    networks = Networks(flow=DISFlow())
    found = evaluate_video(pair, networks, KnownFaces([make_faces((60, 20, 90))] * 6), name="deep/film")
    report = Report([found], COMPARED, networks.missing(COMPARED), {"flow": "dis"})
    report.save(tmp_path / "report.json")
    assert json.loads((tmp_path / "report.json").read_text()) == report.to_dict()
    assert set(report.missing) == {"lpips", "ids", "akd"} and set(Networks().missing(INSPECTED)) == set(INSPECTED)


def test_folders_are_measured_file_by_file(videos, tmp_path, capsys):
    restored, reference, report = tmp_path / "restored", tmp_path / "reference", tmp_path / "report.json"
    for folder in (restored, reference):
        (folder / "deep").mkdir(parents=True)
    for name, source, truth in (("a", "degraded", "sharp"), ("deep/b", "sharp", "sharp"), ("c", "short", "sharp")):
        (restored / f"{name}.mkv").write_bytes(videos[source].read_bytes())
        (reference / f"{name}.mkv").write_bytes(videos[truth].read_bytes())
    # One that cannot be measured does not cost the others.
    assert run(restored, reference, "--aligned", "--report", report) == 1
    out, err = capsys.readouterr()
    first, last = err.splitlines()
    assert first.startswith("keep-hf: c: ") and "ends after 4 frames" in first and "1 of 3 videos failed" in last
    rows = tables(out)["Faces"]
    assert list(rows) == ["a", "deep/b", "**Mean**"]
    assert rows["deep/b"]["PSNR (dB) ↑"] == "inf" and rows["**Mean**"]["PSNR (dB) ↑"] == rows["a"]["PSNR (dB) ↑"]
    mean = (float(rows["a"]["SSIM ↑"]) + 1) / 2
    assert float(rows["**Mean**"]["SSIM ↑"]) == pytest.approx(mean, abs=2e-4)
    assert rows["**Mean**"]["Faces"] == "12" and len(json.loads(report.read_text())["videos"]) == 2
    (restored / "c.mkv").unlink()
    (reference / "deep" / "b.mkv").unlink()
    line = fails(capsys, restored, reference, "--aligned")
    assert "deep/b.mkv" in line and "c.mkv" in line and "a.mkv" not in line


def test_differing_sizes_need_a_word(videos, capsys):
    line = fails(capsys, videos["small"], videos["sharp"], "--aligned")
    assert "224 x 176" in line and "112 x 88" in line and "--resize" in line
    assert run(videos["small"], videos["sharp"], "--aligned", "--resize") == 0
    assert f"{videos['sharp']} was shrunk by area from 224 x 176 to 112 x 88." in capsys.readouterr().out


def test_what_cannot_be_measured_is_said_in_a_line(videos, tmp_path, capsys):
    sharp, missing = videos["sharp"], tmp_path / "missing"
    assert "ends after 4 frames" in fails(capsys, videos["short"], sharp, "--aligned")
    assert "missing does not exist" in fails(capsys, missing, sharp)
    assert "report" in fails(capsys, sharp, "--report", missing / "report.json")
    assert "LPIPS compares with a reference" in fails(capsys, sharp, "--lpips", tmp_path)
    assert "--lpips-weights" in fails(capsys, sharp, sharp, "--lpips", sharp)
    assert "pass the .onnx" in fails(capsys, sharp, "--identity", missing.with_suffix(".onnx"))
    if WEIGHTS.is_dir():
        assert "which are square" in fails(capsys, sharp, "--aligned", *FACE_OPTIONS)
    for usage in ([], [sharp, sharp, sharp], [sharp, "--faces", "some"]):
        with pytest.raises(SystemExit) as error:
            run(*usage)
        assert error.value.code == 2


def test_another_flow_gives_other_flicker(videos, capsys):
    told = []
    for options in ([], ["--flow", "keep-tiny"]):
        assert run(videos["degraded"], videos["sharp"], "--aligned", *options) == 0
        told.append(tables(capsys.readouterr().out)["Faces"]["degraded"])
    dis, other = (row["Flicker of the reference (levels of 255)"] for row in told)
    assert dis != other and told[0]["PSNR (dB) ↑"] == told[1]["PSNR (dB) ↑"]
