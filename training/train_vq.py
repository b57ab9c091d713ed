"""Stage 1: train the autoencoder of sharp faces, that is HQ encoder, codebook and decoder (KEEP, arXiv 2408.05205).

    accelerate launch -m training.train_vq --network tiny --data faces/ --output runs/vq --steps 20000

During the first part of the run nothing is quantized. Then the codebook is initialized by k-means and follows moving
averages; codes that start among the latents stay in use. The loss is that of the image (see losses.py), the commitment
of latents to their codes, and an adversarial loss with the adaptive weight of VQGAN.
"""

import torch
import torch.nn.functional as F

from keep_hf import KeepVQModel

from .data.face_clips import FaceClips, open_validation
from .loop.config import Parser, TrainerConfig, add_arguments
from .loop.stage import Batch, Stage, StageOutput
from .loop.trainer import Trainer
from .losses.adversary import Adversary, adaptive_weight
from .losses.codebook import CodebookLearner
from .losses.image_loss import ImageLoss, psnr
from .losses.image_loss import add_arguments as add_loss_arguments
from .networks import VQ_NETWORKS


COMMITMENT_WEIGHT = 0.25
# Without codes, latents are only kept at about unit size, so that k-means starts from a compact cloud.
UNQUANTIZED_WEIGHT = 1e-3


class AutoencoderStage(Stage):
    """Trains HQ encoder and decoder by gradients, and the codebook by moving averages.

    Args:
        vq ([`KeepVQModel`]): The face model.
        image_loss ([`ImageLoss`]): Distance of reconstructed from sharp images.
        adversary ([`Adversary`], *optional*): The discriminator.
        unquantized (`float`): Fraction of the run before the codebook is used.
        trained (`bool`): Whether `vq` has a trained codebook, which is used from the start.
    """

    def __init__(
        self,
        vq: KeepVQModel,
        image_loss: ImageLoss,
        adversary: Adversary | None,
        unquantized: float,
        trained: bool,
    ) -> None:
        super().__init__()
        self.vq, self.image_loss, self.adversary = vq, image_loss, adversary
        self.learner = CodebookLearner(vq.config.num_codes, vq.config.latent_channels)
        if trained:
            self.learner.adopt(vq.codebook)
        self.unquantized = unquantized
        vq.requires_grad_(False)
        for part in (vq.hq_encoder, vq.decoder):
            if part is None:
                raise ValueError("Stage 1 trains a face model with an HQ encoder; this one has none.")
            part.requires_grad_(True)

    def before_step(self, step: int, done: float) -> None:
        """Initialize the codebook when the first part of the run is over."""
        if step >= 1 and done >= self.unquantized and not self.learner.started:
            self.learner.start(self.vq.codebook)

    def forward(self, batch: Batch) -> StageOutput:
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
        restored = self.vq.decode(quantized)[0].unflatten(0, sharp.shape[:2])
        figures = self.image_loss(restored, sharp)
        loss = figures["image"] + (COMMITMENT_WEIGHT if self.learner.started else UNQUANTIZED_WEIGHT) * commitment
        figures |= {"commitment": commitment, "distinct codes": distinct, "psnr": psnr(restored, sharp)}
        if self.training and self.adversary is not None and self.adversary.active:
            figures["adversarial"] = self.adversary.generator_loss(restored)
            last_layer = self.vq.decoder.conv_out.weight
            figures["adaptive weight"] = adaptive_weight(figures["image"], figures["adversarial"], last_layer)
            loss = loss + self.adversary.weight * figures["adaptive weight"] * figures["adversarial"]
        return StageOutput(loss, figures, {"restored": restored, "sharp": sharp})


def build_parser() -> Parser:
    parser = Parser(__doc__)
    parser.add_argument("--network", choices=sorted(VQ_NETWORKS), default="tiny", help="size of a new network")
    parser.add_argument("--initial", help="face model to start from, instead of a new one")
    parser.add_argument(
        "--unquantized", type=float, default=0.15, help="fraction of the run before the codebook starts"
    )
    add_loss_arguments(parser)
    add_arguments(parser)
    return parser


def main(arguments: list[str] | None = None) -> None:
    args = build_parser().parse_args(arguments)
    config = TrainerConfig.from_args(args)
    torch.manual_seed(args.seed)
    vq = KeepVQModel.from_pretrained(args.initial) if args.initial else KeepVQModel(**VQ_NETWORKS[args.network])
    size = vq.config.sample_size
    stage = AutoencoderStage(
        vq,
        ImageLoss.from_args(args),
        Adversary.from_args(args, over_time=False),
        args.unquantized,
        trained=bool(args.initial),
    )
    Trainer(
        config,
        stage,
        FaceClips(args.data, size, clip_length=1, degradation=None, seed=args.seed),
        save_models=lambda: vq.save_pretrained(config.output / "vq"),
        validation_set=open_validation(args.validation, size, clip_length=1, degradation=None),
    ).run()


if __name__ == "__main__":
    main()
