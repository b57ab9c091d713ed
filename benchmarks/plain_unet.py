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
from training.data import FaceClips, open_validation
from training.loop import Parser, add_arguments, train
from training.losses import PictureLoss, psnr
from training.losses import add_arguments as add_loss_arguments


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


class UNetStage(nn.Module):
    def __init__(self, unet: PlainUNet, picture_loss: PictureLoss) -> None:
        super().__init__()
        self.unet, self.picture_loss = unet, picture_loss

    def forward(self, batch: dict[str, torch.Tensor]) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
        sharp, degraded = batch["sharp"], batch["degraded"]
        made = self.unet(degraded.flatten(0, 1)).unflatten(0, sharp.shape[:2])
        losses = self.picture_loss(made, sharp)
        losses |= {"psnr": psnr(made, sharp), "psnr of the input": psnr(degraded, sharp)}
        return {"loss": losses["picture"], **losses}, {"degraded": degraded, "made": made, "sharp": sharp}


def main() -> None:
    parser = Parser(__doc__)
    parser.add_argument("--initial", help="U-Net to go on with, in place of a new one")
    add_loss_arguments(parser)
    add_arguments(parser, learning_rate=4e-4)
    args = parser.parse_args()
    if args.adversarial_weight:
        parser.error("there is no adversary here: leave --adversarial-weight out")

    torch.manual_seed(args.seed)
    unet = PlainUNet.from_pretrained(args.initial) if args.initial else PlainUNet()
    settings = {"size": unet.config.sample_size, "clip_length": 1, "degradation": TRAINING}
    train(
        args,
        UNetStage(unet, PictureLoss(args)),
        FaceClips(args.data, **settings, seed=args.seed),
        lambda: unet.save_pretrained(args.output / "unet"),
        open_validation(args.validation, **settings),
    )


if __name__ == "__main__":
    main()
