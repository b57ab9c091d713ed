"""The face model: sizes from the configuration, guidance of the decoder, codes, checkpointing, saving, offloading."""

import pytest
import torch
from accelerate import cpu_offload
from diffusers.models.attention_dispatch import attention_backend

from keep_hf import KeepVQModel
from keep_hf.models.guidance import CrossFrameAttention, FeatureFusion, FeatureUpdate


def make(**changes) -> KeepVQModel:
    torch.manual_seed(0)
    config = {
        "sample_size": 64,
        "patch_size": 2,
        "block_out_channels": (16, 32),
        "layers_per_block": 2,
        "norm_num_groups": 8,
        "latent_channels": 16,
        "num_codes": 32,
        "transformer_channels": 32,
        "transformer_num_heads": 2,
        "transformer_num_layers": 2,
        "fusion_sizes": (16, 32),
        "feature_update_sizes": (32,),
        "cross_frame_sizes": (16,),
        "cross_frame_num_heads": 2,
        "cross_frame_head_dim": 8,
    }
    model = KeepVQModel(**(config | changes)).eval()
    # Fusion starts as the identity, which would hide faults.
    for module in model.modules():
        if isinstance(module, FeatureFusion):
            torch.nn.init.normal_(module.scale_out.weight, std=0.05)
            torch.nn.init.normal_(module.shift_out.weight, std=0.05)
        if isinstance(module, FeatureUpdate):
            torch.nn.init.normal_(module.correction.weight, std=0.05)
        if isinstance(module, CrossFrameAttention):
            torch.nn.init.ones_(module.norm1.weight)
            torch.nn.init.ones_(module.norm2.weight)
    return model


def restore(model: KeepVQModel, images: torch.Tensor, fidelity=1.0, previous=None):
    latents, features = model.encode_lq(images)
    codes = model.predict_codes(latents).argmax(-1)
    return model.decode(model.lookup(codes, latents), features, fidelity, previous)


@pytest.mark.parametrize(
    ("sample_size", "patch_size", "widths", "grid"),
    [(64, 1, (16, 16, 32), 16), (96, 2, (16, 32), 24), (128, 4, (16, 16, 32), 8)],
)
def test_any_size_that_the_code_grid_allows(sample_size, patch_size, widths, grid):
    finest = sample_size // patch_size
    model = make(
        sample_size=sample_size,
        patch_size=patch_size,
        block_out_channels=widths,
        fusion_sizes=(finest,),
        feature_update_sizes=(finest,),
        cross_frame_sizes=(grid,),
    )
    images = torch.randn(2, 3, sample_size, sample_size)
    with torch.no_grad():
        latents, _ = model.encode_lq(images)
        restored, features = restore(model, images)
    assert latents.shape == (2, 16, grid, grid)
    assert restored.shape == images.shape
    assert features.keys() == {grid}


def test_sizes_that_do_not_fit_are_rejected():
    with pytest.raises(ValueError, match="multiple of 4"):
        make(sample_size=66)
    with pytest.raises(ValueError, match="No feature map has the size 8"):
        make(fusion_sizes=(8,))
    with pytest.raises(ValueError, match=r"feature_update_sizes are \(16,\); they must be among .* \(32,\)"):
        make(fusion_sizes=(32,), feature_update_sizes=(16,))
    with pytest.raises(ValueError, match="with an HQ encoder"):
        make(has_hq_encoder=False)
    with pytest.raises(ValueError, match="must be"):
        make().encode_lq(torch.randn(1, 3, 32, 32))


def test_fidelity_is_the_weight_of_the_features_of_the_crop():
    model = make()
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        by_fidelity = {w: restore(model, images, w)[0] for w in (0.0, 1e-6, 0.5, 1.0)}
        mixed = restore(model, images.repeat(2, 1, 1, 1), torch.tensor([0.0, 1.0]))[0]
    assert torch.allclose(by_fidelity[0.0], by_fidelity[1e-6], atol=1e-4)
    assert (by_fidelity[0.0] - by_fidelity[0.5]).abs().max() > 1e-2
    assert (by_fidelity[0.5] - by_fidelity[1.0]).abs().max() > 1e-2
    assert torch.allclose(mixed[0], by_fidelity[0.0][0], atol=1e-5)
    assert torch.allclose(mixed[1], by_fidelity[1.0][0], atol=1e-5)


def test_decoder_attends_to_the_previous_frame():
    model = make()
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        first, features = restore(model, images)
        second, _ = restore(model, images, previous=features)
        swapped, _ = restore(model, images, previous={size: f.flip(0) for size, f in features.items()})
    assert (first - second).abs().max() > 1e-2
    assert (second - swapped).abs().max() > 1e-3


@torch.no_grad()
def test_prediction_corrects_the_features_of_the_crop():
    model = make()
    _, observed = model.encode_lq(torch.randn(2, 3, 64, 64))
    _, predicted = model.encode_hq(torch.randn(2, 3, 64, 64))
    assert predicted.keys() == {32}
    updated = model.update_features(observed, predicted)
    swapped = model.update_features(observed, {32: predicted[32].flip(0)})
    assert (updated[32] - observed[32]).abs().max() > 1e-2
    assert (updated[32] - swapped[32]).abs().max() > 1e-3
    assert torch.equal(updated[16], observed[16])


def test_new_fusion_blocks_are_the_identity_and_have_gradients():
    """With all layers at zero, as in the published code, no weight would ever have a gradient."""
    torch.manual_seed(0)
    fusion = FeatureFusion(16, 8)
    decoded = torch.randn(1, 16, 8, 8)
    out = fusion(torch.randn(1, 16, 8, 8), decoded, torch.ones(1, 1, 1, 1))
    assert torch.equal(out, decoded)
    out.square().sum().backward()
    assert fusion.scale_out.weight.grad.abs().sum() > 0
    assert fusion.shift_out.weight.grad.abs().sum() > 0
    feature_update = FeatureUpdate(16, 8)
    out = feature_update(decoded, torch.randn(1, 16, 8, 8))
    assert torch.equal(out, decoded)
    out.square().sum().backward()
    assert feature_update.correction.weight.grad.abs().sum() > 0
    attention = CrossFrameAttention(16, 2, 8)
    out = attention(decoded, torch.randn(1, 16, 8, 8))
    assert torch.equal(out, decoded)
    out.square().sum().backward()
    assert attention.norm1.weight.grad.abs().sum() > 0
    assert attention.norm2.weight.grad.abs().sum() > 0


def test_nearest_codes_have_the_smallest_distance():
    model = make()
    torch.nn.init.normal_(model.codebook.weight)
    latents = torch.randn(2, 16, 16, 16)
    tokens = latents.flatten(2).transpose(1, 2)
    distances = (tokens[:, :, None] - model.codebook.weight).square().sum(-1)
    codes = model.nearest_codes(latents)
    assert torch.equal(codes, distances.argmin(-1))
    vectors = model.lookup(codes, latents)
    assert torch.equal(vectors[1, :, 3, 5], model.codebook.weight[codes[1, 3 * 16 + 5]])


def test_adain_gives_codes_the_statistics_of_the_latents():
    model = make(adain=True, has_hq_encoder=False, feature_update_sizes=(), cross_frame_sizes=())
    latents = 3 * torch.randn(1, 16, 16, 16) + 2
    torch.nn.init.normal_(model.codebook.weight)
    styled = model.lookup(torch.arange(256)[None] % 32, latents)
    assert torch.allclose(styled.mean((2, 3)), latents.mean((2, 3)), atol=1e-4)
    assert torch.allclose(styled.std((2, 3)), latents.std((2, 3)), rtol=1e-3)


def test_reconstruction_passes_gradients_straight_through():
    model = make()
    torch.nn.init.normal_(model.codebook.weight)
    output = model(torch.randn(1, 3, 64, 64))
    assert torch.allclose(output.quantized, model.lookup(output.codes, output.latents), atol=1e-5)
    output.images.square().mean().backward()
    assert model.hq_encoder.conv_in.weight.grad.abs().sum() > 0


def test_gradient_checkpointing_changes_no_gradient():
    images = torch.randn(1, 3, 64, 64)
    gradients = []
    for checkpointing in (False, True):
        model = make()
        if checkpointing:
            model.enable_gradient_checkpointing()
        latents, features = model.encode_lq(images)
        logits = model.predict_codes(latents)
        images_out, _ = model.decode(latents, features)
        (logits.square().mean() + images_out.square().mean()).backward()
        gradients.append({name: p.grad for name, p in model.named_parameters() if p.grad is not None})
    assert gradients[0].keys() == gradients[1].keys()
    for name, gradient in gradients[0].items():
        assert torch.allclose(gradient, gradients[1][name], atol=1e-6), name


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_loads_and_runs(tmp_path, dtype):
    make().save_pretrained(tmp_path)
    model = KeepVQModel.from_pretrained(tmp_path, dtype=dtype)
    assert model.dtype == dtype
    with torch.no_grad():
        restored, _ = restore(model, torch.randn(1, 3, 64, 64).to(dtype))
    assert restored.dtype == dtype
    assert restored.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@torch.no_grad()
def test_logits_have_more_than_half_precision(dtype):
    model = make().to(dtype)
    logits = model.predict_codes(torch.randn(1, 16, 16, 16).to(dtype))
    assert logits.dtype == torch.float32
    assert (logits != logits.to(dtype)).float().mean() > 0.5


def test_attention_backend_of_diffusers_is_used():
    model = make()
    images = torch.randn(1, 3, 64, 64)
    # A backend set on a model becomes the default of all models; the context puts the former default back.
    with torch.no_grad(), attention_backend("native"):
        native = restore(model, images)[0]
        model.set_attention_backend("_native_math")
        math = restore(model, images)[0]
    assert model.decoder.levels[0].attentions[0].attention.processor._attention_backend == "_native_math"
    assert torch.allclose(native, math, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_offloaded_weights_give_the_same_result(dtype):
    """Offloading brings the weights of a module to the device only while the module is called."""
    sizes = {"fusion_sizes": (64,), "feature_update_sizes": (64,), "cross_frame_sizes": (32,)}
    model = make(sample_size=128, **sizes).to(dtype)  # the decoder upsamples 32 x 32 positions, which are folded
    images = torch.randn(1, 3, 128, 128).to(dtype)
    expected, features = restore(model, images)
    expected, _ = restore(model, images, previous=features)
    cpu_offload(model, execution_device=torch.device("cpu"))
    assert all(parameter.is_meta for parameter in model.parameters())
    offloaded, _ = restore(model, images, previous=features)
    torch.testing.assert_close(offloaded, expected, rtol=0, atol=1e-5 if dtype == torch.float32 else 0.1)
