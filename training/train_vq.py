"""Stage 1: the autoencoder of clear faces, that is HQ encoder, codebook and decoder (KEEP, arXiv 2408.05205).

    accelerate launch -m training.train_vq --network tiny --data faces/ --output runs/vq --steps 20000

No quantization for the first part of the run, then a k-means start and a codebook of moving averages: codes that
begin among the latents stay alive.  Losses: of the picture (see losses.py), the commitment of latents to their codes,
and an adversary with the adaptive weight of VQGAN.
"""

import torch
import torch.nn.functional as F
from torch import nn

from keep_hf import KeepVQModel

from .adversary import Adversary, PatchDiscriminator, adaptive_weight
from .codebook import CodebookLearner
from .data import FaceClips, open_validation
from .loop import Parser, add_arguments, train
from .losses import PictureLoss, psnr
from .losses import add_arguments as add_loss_arguments
from .networks import VQ_NETWORKS


COMMITMENT = 0.25


class AutoencoderStage(nn.Module):
    def __init__(
        self,
        vq: KeepVQModel,
        picture_loss: PictureLoss,
        adversary: Adversary | None,
        unquantized: float,
        trained: bool,
    ) -> None:
        super().__init__()
        self.vq, self.picture_loss, self.adversary = vq, picture_loss, adversary
        self.learner = CodebookLearner(vq.config.num_codes, vq.config.latent_channels)
        if trained:
            self.learner.adopt(vq.codebook)
        self.unquantized = unquantized
        vq.requires_grad_(False)  # the codebook learns by moving averages
        vq.hq_encoder.requires_grad_(True)
        vq.decoder.requires_grad_(True)

    def before_step(self, step: int, steps: int) -> None:
        if step >= max(1, self.unquantized * steps) and not self.learner.started:
            self.learner.start(self.vq.codebook)

    def forward(self, batch: dict[str, torch.Tensor]) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
        sharp = batch["sharp"]
        latents = self.vq.encode_hq(sharp.flatten(0, 1))[0].float()
        tokens = latents.detach().flatten(2).transpose(1, 2).flatten(0, 1)
        quantized, commitment, distinct = latents, latents.square().mean(), latents.new_zeros(())
        if self.learner.started:
            codes = self.vq.nearest_codes(latents)
            if self.training:
                self.learner.step(self.vq.codebook, tokens, codes.flatten())
            chosen = self.vq.lookup(codes, latents)
            commitment = F.mse_loss(latents, chosen.detach())
            quantized = latents + (chosen - latents).detach()
            distinct = torch.tensor(float(codes.unique().numel()), device=codes.device)
        if self.training:
            self.learner.remember(tokens)
        made = self.vq.decode(quantized)[0].unflatten(0, sharp.shape[:2])
        losses = self.picture_loss(made, sharp)
        # Before there are codes, latents are kept at unit size on the whole: k-means then starts from a compact cloud.
        loss = losses["picture"] + (COMMITMENT if self.learner.started else 1e-3) * commitment
        losses |= {"commitment": commitment, "distinct codes": distinct, "psnr": psnr(made, sharp)}
        if self.training and self.adversary is not None and self.adversary.active:
            losses["adversary"] = self.adversary.generator_loss(made)
            last_layer = self.vq.decoder.conv_out.weight
            losses["adaptive weight"] = adaptive_weight(losses["picture"], losses["adversary"], last_layer)
            loss = loss + self.adversary.weight * losses["adaptive weight"] * losses["adversary"]
        return {"loss": loss, **losses}, {"made": made, "sharp": sharp}


def main() -> None:
    parser = Parser(__doc__)
    parser.add_argument("--network", choices=sorted(VQ_NETWORKS), default="tiny", help="size of a new network")
    parser.add_argument("--initial", help="face model to go on with, in place of a new one")
    parser.add_argument("--unquantized", type=float, default=0.15, help="part of the run before the codebook starts")
    add_loss_arguments(parser)
    add_arguments(parser, learning_rate=4e-4)
    args = parser.parse_args()

    torch.manual_seed(args.seed)
    vq = KeepVQModel.from_pretrained(args.initial) if args.initial else KeepVQModel(**VQ_NETWORKS[args.network])
    adversary = None
    if args.adversarial_weight:
        adversary = Adversary(PatchDiscriminator(over_time=False), args.adversarial_weight, args.adversarial_start)
    settings = {"size": vq.config.sample_size, "clip_length": 1, "degradation": None}
    dataset = FaceClips(args.data, **settings, seed=args.seed)
    stage = AutoencoderStage(vq, PictureLoss(args), adversary, args.unquantized, trained=bool(args.initial))
    train(
        args,
        stage,
        dataset,
        lambda: vq.save_pretrained(args.output / "vq"),
        open_validation(args.validation, **settings),
    )


if __name__ == "__main__":
    main()
