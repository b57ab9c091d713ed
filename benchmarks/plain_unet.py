"""A plain U-Net of the size of keep-tiny: what do codebook, Kalman filter and recursion cost or give?

    accelerate launch -m benchmarks.plain_unet --data portraits/ faces/ --output runs/unet \\
        --validation held_out/ --steps 5000 --mixed-precision bf16
    python -m benchmarks.vfhq_test --methods bicubic keep unet:runs/unet/unet ...

It sees one degraded frame, enlarged to the size of the truth, and adds to it what is missing.  Data, degradation,
losses and loop are those of stage 3.

Legend: b images, c channels, h w pixels.
"""

import torch
import torch.nn.functional as F
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from torch import nn

from keep_hf.degrade import TRAINING
from keep_hf.models.layers import Downsample, ResidualBlock, Upsample
from training.data.face_clips import FaceClips, open_validation
from training.loop.config import Parser, TrainerConfig, add_arguments
from training.loop.stage import Batch, Stage, StageOutput
from training.loop.trainer import Trainer
from training.losses.image_loss import ImageLoss, psnr
from training.losses.image_loss import add_arguments as add_loss_arguments


class PlainUNet(ModelMixin, ConfigMixin):
    """Degraded faces `(b, 3, h, w)` in [-1, 1] -> clear ones.

    Args:
        sample_size (`int`, *optional*, defaults to 256): Side of the faces in pixels.
        patch_size (`int`, *optional*, defaults to 4): Squares of so many pixels become channels, as in keep-tiny.
        block_out_channels (`tuple[int]`): Widths of the levels, from the finest to the coarsest.
        norm_num_groups (`int`, *optional*, defaults to 16): Groups of the group norms.
    """

    @register_to_config
    def __init__(
        self,
        sample_size: int = 256,
        patch_size: int = 4,
        block_out_channels: tuple[int, ...] = (48, 128, 288),
        norm_num_groups: int = 16,
    ) -> None:
        super().__init__()
        widths, groups = list(block_out_channels), norm_num_groups
        self.conv_in = nn.Conv2d(3 * patch_size**2, widths[0], 3, padding=1)
        self.encoder = nn.ModuleList(
            nn.Sequential(ResidualBlock(before, width, groups), ResidualBlock(width, width, groups))
            for before, width in zip([widths[0], *widths], widths, strict=False)
        )
        self.downsamples = nn.ModuleList(Downsample(width) for width in widths[:-1])
        self.middle = nn.Sequential(*(ResidualBlock(widths[-1], widths[-1], groups) for _ in range(2)))
        self.upsamples = nn.ModuleList(Upsample(width) for width in reversed(widths[1:]))
        self.decoder = nn.ModuleList(
            nn.Sequential(ResidualBlock(coarser + width, width, groups), ResidualBlock(width, width, groups))
            for coarser, width in zip(reversed(widths[1:]), reversed(widths[:-1]), strict=True)
        )
        self.norm_out = nn.GroupNorm(groups, widths[0], eps=1e-6)
        self.conv_out = nn.Conv2d(widths[0], 3 * patch_size**2, 3, padding=1)
        nn.init.zeros_(self.conv_out.weight)
        nn.init.zeros_(self.conv_out.bias)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        x = self.conv_in(F.pixel_unshuffle(images, self.config.patch_size))
        skips = []
        for i, level in enumerate(self.encoder):
            x = level(x)
            if i < len(self.downsamples):
                skips.append(x)
                x = self.downsamples[i](x)
        x = self.middle(x)
        for upsample, level in zip(self.upsamples, self.decoder, strict=True):
            x = level(torch.cat([upsample(x), skips.pop()], dim=1))
        missing = self.conv_out(F.silu(self.norm_out(x)))
        return images + F.pixel_shuffle(missing, self.config.patch_size)


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


def main() -> None:
    parser = build_parser()
    args = parser.parse_args()
    if args.adversarial_weight:
        parser.error("there is no adversary here: leave --adversarial-weight out")

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
