"""The comparison of latencies on a clip of a drawn face: its table, and the look-ahead that it counts."""

import numpy as np
import pytest

from benchmarks import latency
from conftest import SIZE, KnownFaces, make_clip, make_components, make_faces
from keep_hf import KeepPipeline
from media import write_clip


pytestmark = pytest.mark.slow


FACE = make_faces((80, 30, 2 * SIZE))  # in the truth
SMALL = make_faces((40, 15, SIZE))  # in the degraded clip


def test_the_table_has_both_latencies(tmp_path, monkeypatch, capsys):
    write_clip(tmp_path / "clip.mp4", images=list(make_clip(8, 320, 200)))
    KeepPipeline(**make_components(), gain_window=4).save_pretrained(tmp_path / "model")
    monkeypatch.setattr(KeepPipeline, "face_detector", lambda self: KnownFaces([SMALL]))
    monkeypatch.setattr(latency.YuNet, "from_pretrained", lambda name: KnownFaces([FACE]))
    model = str(tmp_path / "model")
    latency.main(
        ["--videos", str(tmp_path), "--clips", "clip", "--height", "200", "--models", model, "--detector", "known"]
    )
    head, _, *lines = capsys.readouterr().out.splitlines()
    assert head == "| clip | result | psnr | ssim | flicker | look-ahead | frames per CPU second |"
    rows = {tuple(cells[:2]): cells[2:] for cells in ([c.strip() for c in line.split("|")[1:-1]] for line in lines)}
    assert list(rows) == [(c, n) for c in ("clip", "mean") for n in ("input", f"{model}, normal", f"{model}, low")]
    for (_, name), cells in rows.items():
        assert np.isfinite([float(cell) for cell in cells[:3]]).all()
        assert cells[3] == {"input": "", f"{model}, normal": "8", f"{model}, low": "3"}[name]
    assert rows["clip", f"{model}, low"][:3] != rows["clip", "input"][:3]
    assert rows["mean", f"{model}, low"] == rows["clip", f"{model}, low"]
