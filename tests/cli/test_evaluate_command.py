"""`keep-hf evaluate` on videos of a real face: tables, reports and errors."""

import io
import json
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import skimage.data

from keep_hf.cli import main
from media import write_clip, write_lossless
from paths import SHARED
from stand_ins import untrained_lpips


WEIGHTS = SHARED / "weights"
needs_weights = pytest.mark.skipif(
    not (WEIGHTS / "pfld.onnx").is_file(), reason="the face networks of ../shared/weights are missing"
)
FACE_OPTIONS = ["--identity", WEIGHTS / "MobileFaceNet.onnx", "--landmarks", WEIGHTS / "pfld.onnx"]


def moving_portrait(num_frames: int) -> list[np.ndarray]:
    """Frames of 224 x 176 in which a real face of about 70 pixels moves."""
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
    """Lossless videos of a face that moves, sharp and degraded."""
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
    folder = tmp_path_factory.mktemp("lpips")
    untrained_lpips().save_pretrained(folder)
    return folder


def run(*arguments) -> int:
    return main(["evaluate", *map(str, arguments)])


def fails(capsys, *arguments) -> str:
    """The error message of the command, which is a single line."""
    capsys.readouterr()
    assert run(*arguments) == 1
    out, err = capsys.readouterr()
    lines = err.splitlines()
    assert out == ""
    assert len(lines) == 1, lines
    assert lines[0].startswith("keep-hf: ")
    return lines[0]


def tables(text: str) -> dict[str, dict[str, dict[str, str]]]:
    """Tables of Markdown: cells by the line above the table, the name of the row and the head of the column."""
    found: dict[str, dict[str, dict[str, str]]] = {}
    title = ""
    for block in text.split("\n\n"):
        lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in block.splitlines()]
        if block.startswith("|"):
            found[title] = {row[0]: dict(zip(lines[0], row, strict=True)) for row in lines[2:]}
        title = block.strip()
    return found


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [("--min-face-size", "nan", "min_face_size must be"), ("--frame-rate", "0", "frame_rate must be")],
)
def test_impossible_options_are_refused(tmp_path, capsys, option, value, message):
    video = write_clip(tmp_path / "in.mp4", num_frames=2)
    assert message in fails(capsys, video, option, value, "--model", "keep-tiny")


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
        cells = {head.split(" ")[0]: cell for head, cell in row.items()}
        assert cells["PSNR"] == "inf"
        assert cells["SSIM"] == cells["IDS"] == "1.0000"
        assert all(float(cells[name]) == 0 for name in ("LPIPS", "AKD", "sigma_AKD", "sigma_IDS"))
        assert cells["People"] == "1"
        assert cells["Faces"] == ("4" if aligned else "6")
        assert row["Flicker (levels of 255) ↓"] == next(cell for head, cell in row.items() if "of the ref" in head)
    assert "PSNR (dB) ↑" in row
    assert "AKD (pixels at 512) ↓" in row
    assert "Missing" not in out
    content = json.loads(report.read_text())
    assert content["mean"]["faces"]["mean"]["psnr"] == "inf"
    assert content["mean"]["faces"]["mean"]["akd"] == 0
    assert (content["mean"]["frames"] is None) == aligned == (content["videos"][0]["frames"] is None)


@needs_weights
def test_every_metric_shows_a_degraded_face(videos, tmp_path, capsys):
    report = tmp_path / "report.json"
    assert run(videos["degraded"], videos["sharp"], *FACE_OPTIONS, "--report", report) == 0
    out = capsys.readouterr().out
    assert [path.name for path in tmp_path.iterdir()] == ["report.json"]  # and no unfinished file
    content = json.loads(report.read_text())
    (video,) = content["videos"]
    assert video["num_frames"] == 6
    assert video["sources"] == [str(videos[name]) for name in ("degraded", "sharp")]
    assert video["faces"]["num_people"] == 1
    assert video["faces"]["num_faces"] == 6
    mean, sigma = video["faces"]["mean"], video["faces"]["sigma"]
    assert 20 < mean["psnr"] < 34
    assert 0.3 < mean["ids"] < 0.99
    assert 0.3 < mean["akd"] < 20
    assert mean["flicker"] > mean["reference_flicker"] + 1
    assert 0 < sigma["ids"] < 0.2
    assert 0 < sigma["akd"] < 5
    values = video["people"][0]["metrics"]["ids"]["values"]
    assert np.mean(values) == pytest.approx(mean["ids"])
    assert np.std(values) == pytest.approx(sigma["ids"])
    assert content["metrics"]["akd"]["unit"] == "pixels at 512"
    row = tables(out)["Faces"]["degraded"]
    assert row["sigma_IDS (cosine) ↓"] == f"{sigma['ids']:.4f}"
    assert row["PSNR (dB) ↑"] == f"{mean['psnr']:.2f}"
    # LPIPS is reported as missing.
    assert "- Missing: LPIPS needs" in out
    assert "--lpips" in out
    assert not any("LPIPS" in head for head in row)
    assert mean["lpips"] is None
    assert "--lpips" in content["metrics"]["lpips"]["missing"]


@needs_weights
def test_without_a_reference_the_temporal_consistency_is_measured(videos, capsys):
    rows = {}
    for name in ("sharp", "degraded"):
        assert run(videos[name], *FACE_OPTIONS) == 0
        rows[name] = tables(capsys.readouterr().out)["Faces"][name]
        assert not any("PSNR" in head for head in rows[name])
    flicker, jitter = "Flicker (levels of 255) ↓", "Landmark jitter (pixels at 512) ↓"
    assert float(rows["degraded"][flicker]) > float(rows["sharp"][flicker])
    # The detector was trained on degraded faces: they do not always jitter more.
    assert all(0 < float(row[jitter]) < 5 for row in rows.values())
    assert "Identity jitter (cosine) ↓" in rows["sharp"]


def test_folders_are_measured_file_by_file(videos, tmp_path, capsys):
    restored, reference, report = tmp_path / "restored", tmp_path / "reference", tmp_path / "report.json"
    for folder in (restored, reference):
        (folder / "deep").mkdir(parents=True)
    for name, source, truth in (("a", "degraded", "sharp"), ("deep/b", "sharp", "sharp"), ("c", "short", "sharp")):
        (restored / f"{name}.mkv").write_bytes(videos[source].read_bytes())
        (reference / f"{name}.mkv").write_bytes(videos[truth].read_bytes())
    for folder, length in ((restored, 100), (reference, None)):
        (folder / "d.mkv").write_bytes(videos["sharp"].read_bytes()[:length])
    # A video that cannot be opened or measured does not stop the others.
    assert run(restored, reference, "--aligned", "--report", report) == 1
    out, err = capsys.readouterr()
    opened, measured, last = err.splitlines()
    assert opened.startswith("keep-hf: d: ")
    assert "d.mkv is not a video" in opened
    assert measured.startswith("keep-hf: c: ")
    assert "ends after 4 frames" in measured
    assert "2 of 4 videos failed" in last
    rows = tables(out)["Faces"]
    assert list(rows) == ["a", "deep/b", "**Mean**"]
    assert rows["deep/b"]["PSNR (dB) ↑"] == "inf"
    assert rows["**Mean**"]["PSNR (dB) ↑"] == rows["a"]["PSNR (dB) ↑"]
    mean = (float(rows["a"]["SSIM ↑"]) + 1) / 2
    assert float(rows["**Mean**"]["SSIM ↑"]) == pytest.approx(mean, abs=2e-4)
    assert rows["**Mean**"]["Faces"] == "12"
    assert len(json.loads(report.read_text())["videos"]) == 2
    (restored / "c.mkv").unlink()
    (reference / "deep" / "b.mkv").unlink()
    line = fails(capsys, restored, reference, "--aligned")
    assert "deep/b.mkv" in line
    assert "c.mkv" in line
    assert "a.mkv" not in line


def test_an_output_without_arrows_loses_nothing(videos, tmp_path, monkeypatch):
    """The encoding of a pipe under Windows lacks the arrows of the tables."""
    content, report = io.BytesIO(), tmp_path / "report.json"
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(content, encoding="cp1252", write_through=True))
    assert run(videos["sharp"], videos["sharp"], "--aligned", "--report", report) == 0
    assert rb"PSNR (dB) \u2191" in content.getvalue()
    assert json.loads(report.read_text())["videos"][0]["name"] == videos["sharp"].stem


def test_different_sizes_need_an_option(videos, capsys):
    line = fails(capsys, videos["small"], videos["sharp"], "--aligned")
    assert "224 x 176" in line
    assert "112 x 88" in line
    assert "--resize" in line
    assert run(videos["small"], videos["sharp"], "--aligned", "--resize") == 0
    assert f"{videos['sharp']} was shrunk by area from 224 x 176 to 112 x 88." in capsys.readouterr().out


def test_errors_are_reported_in_one_line(videos, tmp_path, capsys):
    sharp, missing = videos["sharp"], tmp_path / "missing"
    assert "ends after 4 frames" in fails(capsys, videos["short"], sharp, "--aligned")
    assert "missing does not exist" in fails(capsys, missing, sharp)
    assert "report" in fails(capsys, sharp, "--report", missing / "report.json")
    assert "LPIPS compares with a reference" in fails(capsys, sharp, "--lpips", tmp_path)
    assert "--lpips-weights" in fails(capsys, sharp, sharp, "--lpips", sharp)
    assert "pass the path of an .onnx file" in fails(capsys, sharp, "--identity", missing.with_suffix(".onnx"))
    if WEIGHTS.is_dir():
        assert "which are square" in fails(capsys, sharp, "--aligned", *FACE_OPTIONS)
    for usage in ([], [sharp, sharp, sharp], [sharp, "--faces", "some"]):
        with pytest.raises(SystemExit) as error:
            run(*usage)
        assert error.value.code == 2


def test_another_flow_gives_other_flicker(videos, capsys):
    rows = []
    for options in ([], ["--flow", "keep-tiny"]):
        assert run(videos["degraded"], videos["sharp"], "--aligned", *options) == 0
        rows.append(tables(capsys.readouterr().out)["Faces"]["degraded"])
    dis, other = (row["Flicker of the reference (levels of 255)"] for row in rows)
    assert dis != other
    assert rows[0]["PSNR (dB) ↑"] == rows[1]["PSNR (dB) ↑"]
