"""Loading by name and from subfolders; model cards; uploads."""

import os
import subprocess
import sys

import pytest
import torch
from huggingface_hub import ModelCard

from conftest import SIZE
from hub_server import serve
from keep_hf import FaceDetector, KalmanGainNetwork, KeepPipeline, KeepVQModel
from keep_hf.built_in import BUILT_IN
from media import write_clip


pytestmark = pytest.mark.slow


# Built-in names


def test_the_built_in_name_takes_the_variant_that_its_files_are():
    pipe = KeepPipeline.from_pretrained("keep-tiny", variant="fp16", dtype=torch.float16)
    assert pipe.dtype == torch.float16
    with pytest.raises(ValueError, match=r"'keep-tiny' is stored in half precision: variant must be 'fp16'.*'ema'"):
        KeepPipeline.from_pretrained("keep-tiny", variant="ema")


def test_config_and_folder_of_a_built_in_name():
    assert KeepPipeline.load_config("keep-tiny")["gain_window"] == 20
    assert KeepPipeline.download("keep-tiny") == BUILT_IN["keep-tiny"]


def test_networks_of_a_built_in_name():
    network = KalmanGainNetwork.from_pretrained("keep-tiny", subfolder="kalman", variant="fp16")
    assert isinstance(network, KalmanGainNetwork)
    assert KeepVQModel.load_config("keep-tiny", subfolder="vq")["sample_size"] == 256
    with pytest.raises(ValueError, match="variant must be 'fp16'"):
        KalmanGainNetwork.from_pretrained("keep-tiny", subfolder="kalman", variant="ema")


def test_a_pipeline_in_a_subfolder(components, tmp_path):
    KeepPipeline(**components).save_pretrained(tmp_path / "large")
    assert KeepPipeline.from_pretrained(tmp_path, subfolder="large").vq.config.sample_size == SIZE


def test_a_pipeline_needs_the_face_model(components, tmp_path):
    KeepPipeline(**components).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="vq must be a KeepVQModel, got None"):
        KeepPipeline.from_pretrained(tmp_path, vq=None)


# Model cards


def test_cards_are_utf_8_whatever_the_locale(tmp_path):
    (tmp_path / "README.md").write_text("é", encoding="utf-8")
    load = "from keep_hf import KeepPipeline; pipe = KeepPipeline.from_pretrained('keep-tiny', release='keep')"
    code = f"import sys; {load}; pipe.save_pretrained(sys.argv[1])"
    environment = os.environ | {"PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "LC_ALL": "C"}
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], env=environment, check=True)
    assert "NTU S-Lab License" in (tmp_path / "README.md").read_text(encoding="utf-8")


def test_a_saved_pipeline_has_a_card(components, tmp_path):
    KeepPipeline(**components, licence="mit").save_pretrained(tmp_path / "keep-mine")
    card = ModelCard.load(tmp_path / "keep-mine/README.md")
    assert (card.data.license, card.data.library_name) == ("mit", "diffusers")
    assert "`vq` (KeepVQModel)" in card.text
    assert f"{SIZE} x {SIZE} pixels" in card.text
    assert "$" not in card.text
    assert str(tmp_path) not in card.text
    (tmp_path / "keep-mine/README.md").write_text("my own card")
    KeepPipeline.from_pretrained(tmp_path / "keep-mine").save_pretrained(tmp_path / "keep-mine")
    assert (tmp_path / "keep-mine/README.md").read_text() == "my own card"


PUSH = """
from pathlib import Path
from keep_hf import KeepPipeline
pipe = KeepPipeline.from_pretrained("saved")
pipe.push_to_hub("me/keep-mine")
Path("written.md").write_bytes(Path("hub/README.md").read_bytes())
Path("hub/README.md").write_text("my own card")
pipe.save_pretrained(Path("again"), push_to_hub=True, repo_id="me/keep-mine")
"""


def test_an_upload_has_a_card_whose_snippets_run(components, tmp_path):
    torch.manual_seed(0)
    detector = FaceDetector(block_out_channels=(4, 4, 8, 8, 8), neck_channels=8, close_up_channels=(4, 4, 8, 8)).eval()
    KeepPipeline(**components, detector=detector, licence="mit").save_pretrained(tmp_path / "saved")
    (tmp_path / "hub").mkdir()
    write_clip(tmp_path / "in.mp4", num_frames=2, width=64, height=64)

    def run(script: str, endpoint: str) -> None:
        environment = {"HF_ENDPOINT": endpoint, "HF_TOKEN": "hf_of_a_test", "HF_HOME": str(tmp_path / "home")}
        done = subprocess.run(
            [sys.executable, "-c", script],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            env=os.environ | environment | {"HF_HUB_DISABLE_XET": "1"},
        )
        assert done.returncode == 0, done.stderr[-2000:]

    with serve(tmp_path / "hub", "me/keep-mine") as (endpoint, _):
        run(PUSH, endpoint)
        assert (tmp_path / "hub/README.md").read_text() == "my own card"  # the card in a repository stays
        card = ModelCard.load(tmp_path / "written.md")
        assert card.data.license == "mit"
        snippets = [block.split("```")[0] for block in card.text.split("```python\n")[1:]]
        assert len(snippets) == 2
        assert all('from_pretrained("me/keep-mine"' in snippet for snippet in snippets)
        run("\n".join(snippets), endpoint)
    assert (tmp_path / "out.mp4").is_file()
