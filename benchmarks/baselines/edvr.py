"""EDVR (Wang et al., arXiv 1905.02716): a window of frames, aligned with its centre and merged by attention.

The published files of BasicSR and mmediting enlarge by 4 (`EDVR_M_x4_SR_REDS_official-32075921.pth`) or deblur at the
same size (`EDVR_L_deblur_REDS_official-ca46bd8c.pth`).  None was trained on faces.  Files of the first EDVR repository
have other names (`pcd_align.L3_offset_conv1`) and do not load; BasicSR publishes them converted.
"""

from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from .deformable import DeformableConvolution
from .loading import Checkpoint
from .video_layers import MMEDITING, ResidualBlock, UpsamplingNetwork, convolution, enlarge, lrelu, residual_blocks


# mmediting wraps most convolutions in a module with the name conv.
NAMES = {
    r"^feat_l(\d)_conv(\d)\.conv\.": r"conv_l\1_\2.",
    r"^pcd_alignment\.": "pcd_align.",
    r"\.conv\.(weight|bias)$": r".\1",
    **MMEDITING,
}
LEVELS = ("l3", "l2", "l1")  # a quarter, half and all of the size of the features

Pyramid = dict[str, torch.Tensor]


class DeformablePack(DeformableConvolution):
    """A deformable convolution whose offsets come from other features."""

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__(channels, channels)
        self.conv_offset = convolution(channels, 27 * groups)

    def forward(self, x: torch.Tensor, offset_features: torch.Tensor) -> torch.Tensor:
        return self.convolve(x, *self.split(self.conv_offset(offset_features)))


class PyramidAlignment(nn.Module):
    """PCD: aligns the features of a frame with those of the centre, from coarse to fine.

    Args:
        channels (`int`): Channels of the features.
        groups (`int`): Groups of offsets.
    """

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()
        double = 2 * channels
        self.offset_conv1 = nn.ModuleDict({level: convolution(double, channels) for level in LEVELS})
        self.offset_conv2 = nn.ModuleDict(
            {level: convolution(channels if level == "l3" else double, channels) for level in LEVELS}
        )
        self.offset_conv3 = nn.ModuleDict({level: convolution(channels, channels) for level in LEVELS[1:]})
        self.dcn_pack = nn.ModuleDict({level: DeformablePack(channels, groups) for level in LEVELS})
        self.feat_conv = nn.ModuleDict({level: convolution(double, channels) for level in LEVELS[1:]})
        self.cas_offset_conv1 = convolution(double, channels)
        self.cas_offset_conv2 = convolution(channels, channels)
        self.cas_dcnpack = DeformablePack(channels, groups)

    def forward(self, neighbour: Pyramid, centre: Pyramid) -> torch.Tensor:
        """Features of a frame and of the centre at all levels -> aligned features `(b, c, h, w)`."""
        offsets = lrelu(self.offset_conv1["l3"](torch.cat((neighbour["l3"], centre["l3"]), dim=1)))
        offsets = lrelu(self.offset_conv2["l3"](offsets))
        aligned = lrelu(self.dcn_pack["l3"](neighbour["l3"], offsets))
        for level in ("l2", "l1"):
            coarser = 2 * enlarge(offsets, 2)  # pixels are half as large here
            offsets = lrelu(self.offset_conv1[level](torch.cat((neighbour[level], centre[level]), dim=1)))
            offsets = lrelu(self.offset_conv2[level](torch.cat((offsets, coarser), dim=1)))
            offsets = lrelu(self.offset_conv3[level](offsets))
            moved = self.dcn_pack[level](neighbour[level], offsets)
            aligned = self.feat_conv[level](torch.cat((moved, enlarge(aligned, 2)), dim=1))
            if level == "l2":
                aligned = lrelu(aligned)
        offsets = lrelu(self.cas_offset_conv1(torch.cat((aligned, centre["l1"]), dim=1)))
        return lrelu(self.cas_dcnpack(aligned, lrelu(self.cas_offset_conv2(offsets))))


class AttentionFusion(nn.Module):
    """TSA: weights the aligned frames by their similarity to the centre, merges them, and weights the pixels.

    Args:
        channels (`int`): Channels of the features.
        window (`int`): Number of frames.
    """

    def __init__(self, channels: int, window: int) -> None:
        super().__init__()
        self.temporal_attn1 = convolution(channels, channels)
        self.temporal_attn2 = convolution(channels, channels)
        self.feat_fusion = convolution(window * channels, channels, 1)
        self.spatial_attn1 = convolution(window * channels, channels, 1)
        self.spatial_attn2 = convolution(2 * channels, channels, 1)
        self.spatial_attn3 = convolution(channels, channels)
        self.spatial_attn4 = convolution(channels, channels, 1)
        self.spatial_attn5 = convolution(channels, channels)
        self.spatial_attn_l1 = convolution(channels, channels, 1)
        self.spatial_attn_l2 = convolution(2 * channels, channels)
        self.spatial_attn_l3 = convolution(channels, channels)
        self.spatial_attn_add1 = convolution(channels, channels, 1)
        self.spatial_attn_add2 = convolution(channels, channels, 1)

    def forward(self, aligned: torch.Tensor) -> torch.Tensor:
        """Aligned features `(b, t, c, h, w)` -> merged features `(b, c, h, w)`."""
        reference = self.temporal_attn1(aligned[:, aligned.shape[1] // 2])
        embeddings = self.temporal_attn2(aligned.flatten(0, 1)).unflatten(0, aligned.shape[:2])
        similarity = (embeddings * reference[:, None]).sum(2, keepdim=True).sigmoid()
        frames = (aligned * similarity).flatten(1, 2)
        merged = lrelu(self.feat_fusion(frames))

        attention = lrelu(self.spatial_attn1(frames))
        attention = lrelu(self.spatial_attn2(self.pool(attention)))
        coarse = lrelu(self.spatial_attn_l1(attention))
        coarse = lrelu(self.spatial_attn_l2(self.pool(coarse)))
        coarse = enlarge(lrelu(self.spatial_attn_l3(coarse)), 2)
        attention = lrelu(self.spatial_attn3(attention)) + coarse
        attention = enlarge(lrelu(self.spatial_attn4(attention)), 2)
        attention = self.spatial_attn5(attention)
        shift = self.spatial_attn_add2(lrelu(self.spatial_attn_add1(attention)))
        return 2 * merged * attention.sigmoid() + shift

    @staticmethod
    def pool(x: torch.Tensor) -> torch.Tensor:
        """Maximum and mean at half the size, `(b, 2c, h/2, w/2)`; the mean counts the padding."""
        return torch.cat((F.max_pool2d(x, 3, 2, 1), F.avg_pool2d(x, 3, 2, 1)), dim=1)


class Deblurring(nn.Module):
    """The predeblur module, which restores the features of each frame before they are aligned.

    Args:
        channels (`int`): Channels of the features.
        same_size (`bool`): Whether the features get a quarter of the size of the frame.
    """

    def __init__(self, channels: int, same_size: bool) -> None:
        super().__init__()
        self.conv_first = convolution(3, channels)
        self.same_size = same_size
        if same_size:
            self.stride_conv_hr1 = convolution(channels, channels, stride=2)
            self.stride_conv_hr2 = convolution(channels, channels, stride=2)
        self.stride_conv_l2 = convolution(channels, channels, stride=2)
        self.stride_conv_l3 = convolution(channels, channels, stride=2)
        self.resblock_l3 = ResidualBlock(channels)
        self.resblock_l2_1 = ResidualBlock(channels)
        self.resblock_l2_2 = ResidualBlock(channels)
        self.resblock_l1 = residual_blocks(channels, 5)

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        level1 = lrelu(self.conv_first(frames))
        if self.same_size:
            level1 = lrelu(self.stride_conv_hr2(lrelu(self.stride_conv_hr1(level1))))
        level2 = lrelu(self.stride_conv_l2(level1))
        level3 = enlarge(self.resblock_l3(lrelu(self.stride_conv_l3(level2))), 2)
        level2 = enlarge(self.resblock_l2_2(self.resblock_l2_1(level2) + level3), 2)
        return self.resblock_l1[2:](self.resblock_l1[:2](level1) + level2)


class EDVR(UpsamplingNetwork):
    """Restores the centre of a window of frames.

    Args:
        channels (`int`, *optional*, defaults to 64): Channels of the features.
        window (`int`, *optional*, defaults to 5): Number of frames.
        groups (`int`, *optional*, defaults to 8): Groups of offsets.
        extraction_blocks, reconstruction_blocks (`int`, *optional*, default to 5 and 10): Residual blocks before the
            alignment and after the fusion.
        attention (`bool`, *optional*, defaults to `True`): Whether the frames are merged by attention.
        deblurring (`bool`, *optional*, defaults to `False`): Whether the features come from the predeblur module.
        same_size (`bool`, *optional*, defaults to `False`): Whether the output has the size of the input; otherwise
            it is four times as large. Needs `deblurring`.
    """

    def __init__(
        self,
        channels: int = 64,
        window: int = 5,
        groups: int = 8,
        extraction_blocks: int = 5,
        reconstruction_blocks: int = 10,
        attention: bool = True,
        deblurring: bool = False,
        same_size: bool = False,
    ) -> None:
        super().__init__(channels, same_size)
        self.window, self.deblurring = window, deblurring
        if deblurring:
            self.predeblur = Deblurring(channels, same_size)
            self.conv_1x1 = convolution(channels, channels, 1)
        else:
            self.conv_first = convolution(3, channels)
        self.feature_extraction = residual_blocks(channels, extraction_blocks)
        self.conv_l2_1 = convolution(channels, channels, stride=2)
        self.conv_l2_2 = convolution(channels, channels)
        self.conv_l3_1 = convolution(channels, channels, stride=2)
        self.conv_l3_2 = convolution(channels, channels)
        self.pcd_align = PyramidAlignment(channels, groups)
        self.fusion: nn.Module = convolution(window * channels, channels, 1)
        if attention:
            self.fusion = AttentionFusion(channels, window)
        self.reconstruction = residual_blocks(channels, reconstruction_blocks)

    @classmethod
    def from_checkpoint(cls, path: str | Path) -> "EDVR":
        """Load a published file of either dialect; see the convention of the folder."""
        checkpoint = Checkpoint.read(path, "EDVR", "generator.").rename(NAMES)
        attention = "fusion.weight" not in checkpoint.weights
        fusion = checkpoint.shape("fusion.feat_fusion.weight" if attention else "fusion.weight")
        network = cls(
            channels=fusion[0],
            window=fusion[1] // fusion[0],
            groups=checkpoint.shape("pcd_align.cas_dcnpack.conv_offset.weight")[0] // 27,
            extraction_blocks=checkpoint.count("feature_extraction"),
            reconstruction_blocks=checkpoint.count("reconstruction"),
            attention=attention,
            deblurring="conv_1x1.weight" in checkpoint.weights,
            same_size="predeblur.stride_conv_hr1.weight" in checkpoint.weights,
        )
        return checkpoint.load_into(network)

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        """Frames `(b, t, 3, h, w)` in [0, 1], sides multiples of 4 (16 at the same size) -> the restored centre."""
        pyramids = self.extract(frames.flatten(0, 1))
        levels = {level: features.unflatten(0, frames.shape[:2]) for level, features in pyramids.items()}
        each = [{level: features[:, index] for level, features in levels.items()} for index in range(frames.shape[1])]
        middle = self.window // 2
        aligned = torch.stack([self.pcd_align(neighbour, each[middle]) for neighbour in each], dim=1)
        merged = self.merge(aligned)
        return self.enlarge_features(self.reconstruction(merged), frames[:, middle])

    def extract(self, frames: torch.Tensor) -> Pyramid:
        """Frames `(n, 3, h, w)` -> features at all levels."""
        first = self.conv_1x1(self.predeblur(frames)) if self.deblurring else lrelu(self.conv_first(frames))
        level1 = self.feature_extraction(first)
        level2 = lrelu(self.conv_l2_2(lrelu(self.conv_l2_1(level1))))
        level3 = lrelu(self.conv_l3_2(lrelu(self.conv_l3_1(level2))))
        return {"l1": level1, "l2": level2, "l3": level3}

    def merge(self, aligned: torch.Tensor) -> torch.Tensor:
        """Aligned features `(b, t, c, h, w)` -> merged features `(b, c, h, w)`."""
        return self.fusion(aligned if isinstance(self.fusion, AttentionFusion) else aligned.flatten(1, 2))

    @torch.inference_mode()
    def restore(self, frames: np.ndarray) -> np.ndarray:
        """Restore the frames of a face, each from a window around it.

        Args:
            frames (`np.ndarray` of shape `(t, h, w, 3)`): RGB, uint8, of any size.

        Returns:
            `np.ndarray` of shape `(t, 512, 512, 3)`: RGB, uint8.
        """
        clip = self.to_clip(frames)
        # The published programs repeat the border when they deblur at the same size, and reflect otherwise.
        repeat = self.same_size or len(frames) < self.window
        restored = [
            self(clip[:, window_indices(index, len(frames), self.window // 2, repeat)]) for index in range(len(frames))
        ]
        return self.to_frames(torch.stack(restored, dim=1))


def window_indices(centre: int, length: int, half: int, repeat: bool) -> list[int]:
    """Indices of the frames around a centre; beyond the ends of the clip those of its other side.

    Args:
        centre (`int`): Index of the frame to restore.
        length (`int`): Number of frames of the clip; at least `2 * half + 1` unless the border is repeated.
        half (`int`): Number of frames on each side.
        repeat (`bool`): Whether the first and last frame are repeated instead.
    """
    last = length - 1
    indices = range(centre - half, centre + half + 1)
    if repeat:
        return [min(max(index, 0), last) for index in indices]
    first_side = [centre + half - index if index < 0 else index for index in indices]
    return [centre - half - (index - last) if index > last else index for index in first_side]
