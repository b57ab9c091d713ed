"""Give a trained pipeline a direct path, at twice the resolution of its codes.

    python -m training.add_direct_path keep-tiny runs/direct/direct.safetensors keep-small

The encoders read the same as before: an image of twice the size, averaged over 2 x 2 pixels, is their old input, and
the average becomes part of their first layer.  The last layer of the decoder is fitted by least squares so that it
gives the old output enlarged by cubic interpolation.  Features of the crop do not guide the decoder any more: what is
close to the crop comes from the direct path. `training/publish.py` writes the result in half precision.
"""

import argparse
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file

from keep_hf import DISFlow, KeepPipeline, KeepVQModel

from .data.packed_faces import FLOW_SIDE
from .networks import direct_sizes


FITTED_ON = 64  # random codes of faces are enough to fit a linear layer


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pipeline", help="built-in name or folder")
    parser.add_argument("direct", type=Path, help="weights from training/train_direct.py")
    parser.add_argument("output", type=Path, help="folder for the new pipeline")
    return parser


def main() -> None:
    args = build_parser().parse_args()
    pipe = KeepPipeline.from_pretrained(args.pipeline)
    vq = add_direct_path(pipe.vq, load_file(args.direct))
    result = KeepPipeline(vq, pipe.kalman, DISFlow(FLOW_SIDE), pipe.detector, gain_window=pipe.config.gain_window)
    result.save_pretrained(args.output)


@torch.no_grad()
def add_direct_path(vq: KeepVQModel, direct: dict[str, torch.Tensor]) -> KeepVQModel:
    """The model at twice the size, with a direct path.

    Args:
        vq (`KeepVQModel`): A trained model.
        direct (`dict[str, torch.Tensor]`): State dict of a [`DirectPath`] for twice its size.
    """
    sizes = direct_sizes(direct)
    changes = {
        "sample_size": 2 * vq.config.sample_size,
        "patch_size": 2 * vq.config.patch_size,
        "fusion_sizes": (),
        "fusion_layers": 1,
        "feature_update_sizes": (),
        "direct_channels": sizes.channels,
        "direct_units": sizes.units_per_level,
    }
    result = KeepVQModel.from_config(vq.config, **changes)
    weights = {k: v for k, v in vq.state_dict().items() if not k.startswith(("feature_fusion.", "feature_update."))}
    patch = vq.config.patch_size
    for name in ("lq_encoder.conv_in.weight", "hq_encoder.conv_in.weight"):
        # (out, 3 * patch * patch, 3, 3): every pixel of the old input is the mean of 2 x 2 of the new one.
        weight = weights[name].unflatten(1, (3, patch, patch))
        weight = weight.repeat_interleave(2, 2).repeat_interleave(2, 3) / 4
        weights[name] = weight.flatten(1, 3)
    weights["decoder.conv_out.weight"], weights["decoder.conv_out.bias"] = fit_last_layer(vq)
    weights |= {f"direct.{name}": weight.float() for name, weight in direct.items()}
    result.load_state_dict(weights)
    return result.eval()


def fit_last_layer(vq: KeepVQModel) -> tuple[torch.Tensor, torch.Tensor]:
    """Weight and bias of the decoder's last layer that give its output at twice the size."""
    inputs: list[torch.Tensor] = []
    hook = vq.decoder.conv_out.register_forward_pre_hook(lambda _, arguments: inputs.append(arguments[0]))
    generator = torch.Generator().manual_seed(0)
    gram: torch.Tensor | float = 0.0
    product: torch.Tensor | float = 0.0
    for _ in range(FITTED_ON):
        # Smooth random latents choose codes that stand side by side in faces more often than random codes do.
        side = vq.grid_size // 2
        noise = torch.randn(1, vq.config.latent_channels, side, side, generator=generator)
        codes = vq.nearest_codes(F.interpolate(noise, scale_factor=2, mode="bilinear") * vq.codebook.weight.std())
        inputs.clear()
        image, _ = vq.decode(vq.lookup(codes, noise))
        wanted = F.pixel_unshuffle(F.interpolate(image, scale_factor=2, mode="bicubic"), 2 * vq.config.patch_size)
        columns = F.unfold(inputs[0], 3, padding=1)[0].T.double()
        columns = torch.cat([columns, columns.new_ones(len(columns), 1)], dim=1)
        gram = gram + columns.T @ columns
        product = product + columns.T @ wanted.flatten(2)[0].T.double()
    hook.remove()
    assert isinstance(gram, torch.Tensor)
    assert isinstance(product, torch.Tensor)
    ridge = 1e-6 * gram.diagonal().mean() * torch.eye(len(gram), dtype=gram.dtype)
    solution = torch.linalg.solve(gram + ridge, product).T.float()
    return solution[:, :-1].unflatten(1, (-1, 3, 3)), solution[:, -1]


if __name__ == "__main__":
    main()
