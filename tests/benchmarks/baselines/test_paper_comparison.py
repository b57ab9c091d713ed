"""The paper's comparison: all six baselines in `benchmarks.vfhq_test`, from files as in releases."""

import json
from itertools import combinations
from pathlib import Path

import pytest
import test_image_baselines as images
import test_video_baselines as videos
import torch

from benchmarks import vfhq_test
from benchmarks.baselines.restoreformer import RestoreFormer
from benchmarks.methods import load_methods
from conftest import make_clip, make_components
from keep_hf import KeepPipeline
from keep_hf.video.image_folder import ImageFolderWriter
from paths import REPOSITORY
from processes import launch


SIZE, FRAMES, CLIPS = 128, 2, ("a", "b")
FILES = {"basicvsr": "basicvsr", "basicvsr++": "basicvsrpp", "edvr": "edvr"}
METHODS = ("basicvsr", "basicvsr-carried", "basicvsr++", "basicvsr++-carried", "edvr", *images.NETWORKS)


def write_files(folder: Path) -> dict[str, Path]:
    """Files with generated weights for all methods."""
    weights = {name: videos.build(kind).state_dict() for name, kind in FILES.items()}
    weights |= {name: images.publish(name, images.build(name)) for name in ("gfpgan", "gpen")}
    # With all its levels, so that the attention at 512 pixels is small
    restoreformer = RestoreFormer([32] * 5 + [64], 1, 8, 32, 16, 32, size=512)
    weights["restoreformer"] = images.publish("restoreformer", restoreformer)
    for name, content in weights.items():
        torch.save({"params_ema": content}, folder / f"{name}.pth")
    return {method: folder / f"{method.removesuffix('-carried')}.pth" for method in METHODS}


@pytest.fixture(scope="module")
def arguments(tmp_path_factory) -> list[str]:
    """Two short clips, a tiny KEEP, all methods; BasicVSR in windows of one frame."""
    folder = tmp_path_factory.mktemp("comparison")
    KeepPipeline(**make_components(), gain_window=2).save_pretrained(folder / "model")
    (folder / "clips").mkdir()
    for seed, name in enumerate(CLIPS):
        with ImageFolderWriter(folder / "clips" / name, width=SIZE, height=SIZE) as writer:
            for image in make_clip(FRAMES, SIZE, SIZE, seed):
                writer.write(image)
    options = ("--videos", folder / "clips", "--model", folder / "model", "--aligned", "--device", "cpu")
    methods = [f"{name}:{path}" for name, path in write_files(folder).items()]
    return list(map(str, (*options, "--levels", "mild", "--window", 1, "--methods", "bicubic", *methods)))


@pytest.mark.slow
def test_two_processes_compare_all_baselines_and_resume(arguments, tmp_path, capsys):
    # The first clip alone, as if the run had been aborted after it
    vfhq_test.main([*arguments, "--work", str(tmp_path), "--clips", "a"])
    first = capsys.readouterr().out
    completed = launch(2, "-m", "benchmarks.vfhq_test", *arguments, "--work", tmp_path)
    assert completed.returncode == 0, completed.stderr[-2000:]
    lines = [line for line in (first + completed.stdout).splitlines() if " restored in " in line]
    found = {tuple(line.split(":")[0].split()[:3]) for line in lines}
    assert found == {("mild", clip, name) for clip in CLIPS for name in ("bicubic", *METHODS)}
    assert len(lines) == len(found)  # each is computed once
    assert all(" ms per frame, peak memory " in line for line in lines)

    rows = [line.split(" | ")[0] for line in (tmp_path / "table.md").read_text().splitlines()]
    assert {f"| {name}" for name in METHODS} <= set(rows)
    notes = [row for row in rows if row.startswith("basicvsr")]
    assert [note.split(": windows of 1 frame without overlap, ")[0] for note in notes] == list(METHODS[:4])
    report = json.loads((tmp_path / "report.json").read_text())["levels"]["mild"]
    # The second frame is in the second window.
    for name in FILES.keys() - {"edvr"}:
        assert report[name]["mean"]["psnr"] != report[f"{name}-carried"]["mean"]["psnr"]


def test_misfits_and_windows_are_refused(tmp_path):
    pipe = KeepPipeline(**make_components())
    path = tmp_path / "other.pth"
    torch.save(videos.build("edvr").state_dict(), path)
    with pytest.raises(ValueError, match=r"other\.pth is not a checkpoint of BasicVSR: it has no weight"):
        load_methods([f"basicvsr:{path}"], pipe)
    with pytest.raises(ValueError, match=r"no method 'edvr-carried:.*basicvsr\+\+-carried:FILE"):
        load_methods([f"edvr-carried:{path}"], pipe)
    with pytest.raises(ValueError, match="windows have at least one frame, got 0"):
        load_methods([f"edvr:{path}"], pipe, window=0)


def test_no_block_of_six_lines_stands_in_two_files():
    def blocks(path: Path) -> set[tuple[str, ...]]:
        lines = [line.strip() for line in path.read_text().splitlines() if line.strip()]
        lines = [line for line in lines if not line.startswith(("import ", "from "))]
        return set(zip(*(lines[start:] for start in range(6)), strict=False))

    files = {path.name: blocks(path) for path in (REPOSITORY / "benchmarks" / "baselines").glob("*.py")}
    assert len(files) > 6
    shared = {(a, b): files[a] & files[b] for a, b in combinations(files, 2)}
    assert not {names: found for names, found in shared.items() if found}
