"""Train the plain U-Net with the data, the degradation, the losses and the loop of stage 3.

    accelerate launch -m benchmarks.train_plain_unet --data portraits/ faces/ --output runs/unet \\
        --validation held_out/ --steps 5000 --mixed-precision bf16
    python -m benchmarks.vfhq_test --methods bicubic keep unet:runs/unet/unet ...
"""

import torch

from keep_hf.degrade import TRAINING
from training.data.face_clips import FaceClips, open_validation
from training.loop.config import Parser, TrainerConfig, add_arguments
from training.loop.stage import Batch, Stage, StageOutput
from training.loop.trainer import Trainer
from training.losses.image_loss import ImageLoss, psnr
from training.losses.image_loss import add_arguments as add_loss_arguments

from .plain_unet import PlainUNet


class UNetStage(Stage):
    def __init__(self, unet: PlainUNet, image_loss: ImageLoss) -> None:
        super().__init__()
        self.unet, self.image_loss = unet, image_loss

    def forward(self, batch: Batch) -> StageOutput:
        sharp, degraded = batch["sharp"], batch["degraded"]
        restored = self.unet(degraded.flatten(0, 1)).unflatten(0, sharp.shape[:2])
        figures = self.image_loss(restored, sharp)
        figures |= {"psnr": psnr(restored, sharp), "psnr of the input": psnr(degraded, sharp)}
        return StageOutput(figures["image"], figures, {"degraded": degraded, "restored": restored, "sharp": sharp})


def build_parser() -> Parser:
    parser = Parser(__doc__)
    parser.add_argument("--initial", help="U-Net to start from, instead of a new one")
    add_loss_arguments(parser)
    add_arguments(parser)
    return parser


def main(arguments: list[str] | None = None) -> None:
    parser = build_parser()
    args = parser.parse_args(arguments)
    if args.adversarial_weight:
        parser.error("the U-Net is trained without an adversary: leave --adversarial-weight out")

    config = TrainerConfig.from_args(args)
    torch.manual_seed(args.seed)
    unet = PlainUNet.from_pretrained(args.initial) if args.initial else PlainUNet()
    size = unet.config.sample_size
    Trainer(
        config,
        UNetStage(unet, ImageLoss.from_args(args)),
        FaceClips(args.data, size, clip_length=1, degradation=TRAINING, seed=args.seed),
        save_models=lambda: unet.save_pretrained(config.output / "unet"),
        validation_set=open_validation(args.validation, size, clip_length=1, degradation=TRAINING),
    ).run()


if __name__ == "__main__":
    main()
