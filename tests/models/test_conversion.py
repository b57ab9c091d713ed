"""Conversion of published checkpoints of all releases, and the errors for files that do not fit."""

import pickle

import pytest
import torch
from safetensors.torch import save_file

from golden import fill_weights, load_description, load_golden, needs_golden, take_part, tiny_state_dict, to_clip
from keep_hf import GMFlow, KalmanRecursion, KeepPipeline, KeepVQModel
from keep_hf.models.checkpoint_files import load_checkpoint
from keep_hf.models.conversion import convert_checkpoint


pytestmark = needs_golden


@pytest.fixture(scope="module")
def official() -> dict[str, torch.Tensor]:
    return tiny_state_dict()


def second_dialect(state_dict):
    return {k.replace("cross_fuse.", "cfa.").replace("fuse_convs_dict.", "cft."): v for k, v in state_dict.items()}


@torch.no_grad()
def run(pipe: KeepPipeline) -> torch.Tensor:
    recursion = KalmanRecursion(pipe.vq, pipe.kalman, pipe.flow)
    return recursion(to_clip(load_golden("tiny_fp32")["frames_u8"][:2])).frames


def test_sizes_are_read_from_the_weights(official):
    components = convert_checkpoint(official, transformer_num_heads=4)
    vq, kalman, flow = (components[name].config for name in ("vq", "kalman", "flow"))
    assert (vq.sample_size, vq.latent_channels, vq.num_codes, vq.transformer_channels) == (128, 32, 64, 64)
    assert vq.block_out_channels == [32, 32, 32, 32, 64, 64]
    assert (vq.fusion_sizes, vq.cross_frame_sizes, vq.cross_frame_head_dim) == ([4, 8, 16], [4, 8], 16)
    assert (kalman.num_uncertainty_layers, kalman.head_dim) == (2, 12)
    assert (flow.feature_channels, flow.num_layers) == (32, 2)


def test_all_releases_and_the_round_trip_give_bitwise_equal_results(official, tmp_path):
    releases = {
        "first.pth": official,
        "second.pth": {"params_ema": second_dialect(official)},
        "saved.safetensors": official,
    }
    outputs = []
    for name, content in releases.items():
        if name.endswith("pth"):
            torch.save(content, tmp_path / name)
        else:
            save_file(content, tmp_path / name)
        outputs.append(run(KeepPipeline.from_single_file(tmp_path / name, transformer_num_heads=4)))
    pipe = KeepPipeline.from_single_file(tmp_path / "first.pth", transformer_num_heads=4)
    pipe.save_pretrained(tmp_path / "ours")
    outputs.append(run(KeepPipeline.from_pretrained(tmp_path / "ours")))
    assert all(torch.equal(outputs[0], output) for output in outputs[1:])


def test_asian_model_has_more_fusion_sizes(official):
    """SFT at four sizes, here from 8 on, in the release at 32, 64, 128 and 256: the sizes are read from the keys."""
    state_dict = second_dialect({k: v for k, v in official.items() if not k.startswith("fuse_convs_dict.4.")})
    for size, width in ((32, 32), (64, 32)):
        shapes = {k: v.shape for k, v in state_dict.items() if k.startswith("cft.16.")}
        for key, shape in shapes.items():
            assert width == 32  # all levels from 16 on have this width here
            state_dict[key.replace("cft.16.", f"cft.{size}.")] = torch.randn(shape)
    vq = convert_checkpoint(state_dict, transformer_num_heads=4)["vq"]
    assert vq.config.fusion_sizes == [8, 16, 32, 64]
    assert vq.feature_fusion.keys() == {"8", "16", "32", "64"}


def test_codeformer_is_a_single_frame_model(official, tmp_path):
    dropped = ("hq_encoder.", "kalman_filter.", "flownet.", "cross_fuse.")
    state_dict = {k: v for k, v in official.items() if not k.startswith(dropped)}
    torch.save({"params_ema": state_dict}, tmp_path / "single_frame.pth")
    pipe = KeepPipeline.from_single_file(tmp_path / "single_frame.pth", transformer_num_heads=4)
    assert pipe.kalman is None
    assert pipe.flow is None
    assert pipe.vq.hq_encoder is None
    assert pipe.vq.config.adain
    assert pipe.config.fidelity == 0.5
    frames = load_golden("tiny_fp32")["frames_u8"].numpy()
    both = pipe(frames[:2], aligned=True, strength=1.0, output_type="pt").frames
    second = pipe(frames[1:2], aligned=True, strength=1.0, output_type="pt").frames
    # Every frame is restored on its own; in a batch of two a pixel may be rounded to the next of 255 levels.
    assert torch.allclose(both[:, 1:], second, atol=1.5 / 255)


def test_gmflow_alone(official, tmp_path):
    torch.save({"model": take_part(official, "flownet.model."), "step": 1}, tmp_path / "gmflow.pth")
    components = convert_checkpoint(load_checkpoint(tmp_path / "gmflow.pth"))
    assert components.keys() == {"flow"}
    assert isinstance(components["flow"], GMFlow)
    with pytest.raises(ValueError, match="only GMFlow"):
        KeepPipeline.from_single_file(tmp_path / "gmflow.pth")


def test_full_size_names_match_the_published_manifest():
    """Every published weight of CodeFormer is converted."""
    manifest = load_description("codeformer_fp32")["manifest"]
    state_dict = {e["key"]: torch.zeros(e["shape"]) for e in manifest}
    vq = convert_checkpoint(state_dict)["vq"]
    assert isinstance(vq, KeepVQModel)
    assert vq.config.fusion_sizes == [32, 64, 128, 256]
    assert sum(p.numel() for p in vq.parameters()) == sum(v.numel() for v in state_dict.values())


def test_errors_name_the_weights_that_do_not_fit(official):
    missing = {k: v for k, v in official.items() if k != "generator.blocks.5.norm.weight"}
    with pytest.raises(ValueError, match=r"1 missing: decoder\.levels\.0\.attentions\.0\.norm\.weight"):
        convert_checkpoint(missing, transformer_num_heads=4)
    with pytest.raises(ValueError, match="1 unexpected: surprise"):
        convert_checkpoint(official | {"surprise": torch.zeros(1)}, transformer_num_heads=4)
    reshaped = official | {"feat_emb.bias": torch.zeros(3)}
    with pytest.raises(ValueError, match=r"1 of another shape: code_transformer\.linear_in\.bias \(3,\) for \(64,\)"):
        convert_checkpoint(reshaped, transformer_num_heads=4)
    with pytest.raises(ValueError, match="not a checkpoint of KEEP, CodeFormer or GMFlow"):
        convert_checkpoint({"conv.weight": torch.zeros(1)})
    without_downsampling = {k: v for k, v in official.items() if not k.endswith(".conv.weight")}
    with pytest.raises(ValueError, match="incomplete: its encoder has no residual block or no downsampling"):
        convert_checkpoint(without_downsampling, transformer_num_heads=4)
    without_flow = {k: v for k, v in official.items() if not k.startswith("flownet.")}
    with pytest.raises(ValueError, match="incomplete"):
        convert_checkpoint(without_flow, transformer_num_heads=4)


class Hostile:
    def __reduce__(self):
        return (open, ("hostile-code-was-run", "w"))


def test_damaged_and_hostile_files_are_rejected(tmp_path, monkeypatch, official):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "hostile.pth").write_bytes(pickle.dumps({"params_ema": Hostile()}))
    torch.save({"weights": Hostile()}, tmp_path / "hostile-zip.pth")
    torch.save(official, tmp_path / "whole.pth")
    whole = (tmp_path / "whole.pth").read_bytes()
    (tmp_path / "cut.pth").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "empty.pth").write_bytes(b"")
    (tmp_path / "text.pth").write_text("not a checkpoint")
    (tmp_path / "cut.safetensors").write_bytes(whole[:1000])
    for name in ("hostile.pth", "hostile-zip.pth", "cut.pth", "empty.pth", "text.pth", "cut.safetensors"):
        with pytest.raises(ValueError, match=name):
            load_checkpoint(name)
    assert not (tmp_path / "hostile-code-was-run").exists()
    with pytest.raises(ValueError, match="no checkpoint file"):
        load_checkpoint("missing.pth")
    torch.save({"epoch": 3, "optimizer": {}}, "other.pth")
    with pytest.raises(ValueError, match="does not contain a state dict"):
        load_checkpoint("other.pth")


def test_fill_rule_gives_the_stored_weights(official):
    """It is checked on the stored tiny weights; the weights of full size are not stored."""
    key, value = next((k, v) for k, v in official.items() if v.ndim == 4)
    by_rule = fill_weights([{"key": key, "shape": list(value.shape)}], "t12")[key]
    assert torch.equal(by_rule.half().float(), value)
