"""Stage 1: the autoencoder of clear faces, that is HQ encoder, codebook and decoder (KEEP, arXiv 2408.05205).

    accelerate launch training/train_vq.py --recipe tiny --data faces/ --output runs/vq --steps 20000

No quantization for the first part of the run, then a k-means start and a codebook of moving averages: codes that
begin among the latents stay alive.  The perceptual and the adversarial loss of the paper are not here yet.
"""

import argparse

import torch
import torch.nn.functional as F
from codebook import CodebookLearner
from data import FaceClips
from loop import add_arguments, train
from losses import image_loss
from recipes import VQ_RECIPES
from torch import nn

from keep_hf import KeepVQModel


class AutoencoderStage(nn.Module):
    def __init__(self, vq: KeepVQModel, unquantized: float) -> None:
        super().__init__()
        self.vq = vq
        self.learner = CodebookLearner(vq.config.num_codes, vq.config.latent_channels)
        self.unquantized = unquantized
        for part in (vq.lq_encoder, vq.code_transformer, vq.feature_fusion, vq.cross_frame, vq.codebook):
            part.requires_grad_(False)

    def before_step(self, step: int, steps: int) -> None:
        if step >= max(1, self.unquantized * steps) and not self.learner.started:
            self.learner.start(self.vq.codebook)

    def forward(self, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        images = batch["sharp"].flatten(0, 1)
        latents = self.vq.encode_hq(images).float()
        tokens = latents.detach().flatten(2).transpose(1, 2).flatten(0, 1)
        self.learner.remember(tokens)
        commitment = latents.new_zeros(())
        quantized, distinct = latents, latents.new_zeros(())
        if self.learner.started:
            codes = self.vq.nearest_codes(latents)
            self.learner.step(self.vq.codebook, tokens, codes.flatten())
            chosen = self.vq.lookup(codes, latents)
            commitment = F.mse_loss(latents, chosen.detach())
            quantized = latents + (chosen - latents).detach()
            distinct = torch.tensor(float(codes.unique().numel()), device=codes.device)
        else:
            # Latents of unit size on the whole: k-means then starts from a compact cloud.
            commitment = 1e-3 * latents.square().mean()
        made = self.vq.decode(quantized)[0].float()
        picture = image_loss(made, images)
        error = (made.detach().clamp(-1, 1) - images).square().mean() / 4
        return {
            "loss": picture + 0.25 * commitment,
            "picture": picture,
            "commitment": commitment,
            "distinct codes": distinct,
            "psnr": -10 * error.log10(),
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", choices=sorted(VQ_RECIPES), default="tiny", help="size of the network")
    parser.add_argument("--unquantized", type=float, default=0.15, help="part of the run before the codebook starts")
    add_arguments(parser, learning_rate=4e-4)
    args = parser.parse_args()

    torch.manual_seed(args.seed)
    vq = KeepVQModel(**VQ_RECIPES[args.recipe])
    dataset = FaceClips(args.data, vq.config.sample_size, clip_length=1, degraded=False, seed=args.seed)
    train(args, AutoencoderStage(vq, args.unquantized), dataset, lambda: vq.save_pretrained(args.output / "vq"))


if __name__ == "__main__":
    main()
