"""The face model: two encoders, a code transformer, a codebook and a decoder (KEEP paper, sections 3.1 and 3.3).

    LQ crop ──> lq_encoder ──> latents ──> code_transformer ──> codes ──> codebook ──> decoder ──> face
                    └── features of the crop ── feature_fusion (SFT, weight = fidelity) ──┘  ^
                              features of the previous frame ── cross_frame attention ───────┘

`hq_encoder` turns a clear face (the previous output, moved to now) into latents of the same space: the prediction of
the Kalman filter.  The published network (512 pixels, patch_size 1) is the default configuration.  Against the
official code: any batch size, every size from the configuration, names instead of block numbers, and fusion blocks
whose LAST layers alone start at zero, for with every layer at zero no gradient ever reaches them.

Legend: b images, c channels, h w pixels, n tokens of the code grid in row-major order.
"""

from collections.abc import Container
from typing import NamedTuple

import torch
import torch.nn.functional as F
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from diffusers.models.attention import AttentionMixin, FeedForward
from diffusers.utils.accelerate_utils import apply_forward_hook
from torch import nn

from .attention import Attention


Features = dict[str, torch.Tensor]  # size of a feature map, as text -> (b, c, size, size)


class KeepReconstruction(NamedTuple):
    """What the autoencoder makes of clear faces (stage 1 of the training)."""

    images: torch.Tensor  # (b, 3, h, w)
    latents: torch.Tensor  # (b, c, grid, grid), before quantization
    quantized: torch.Tensor  # (b, c, grid, grid), the nearest codes, straight-through to the latents
    codes: torch.Tensor  # (b, n)


class ResidualBlock(nn.Module):
    """GroupNorm, swish, convolution, twice, plus the (projected) input."""

    def __init__(self, in_channels: int, out_channels: int, num_groups: int) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(num_groups, in_channels, eps=1e-6)
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.norm2 = nn.GroupNorm(num_groups, out_channels, eps=1e-6)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1)
        self.shortcut = nn.Conv2d(in_channels, out_channels, 1) if in_channels != out_channels else nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = self.conv1(F.silu(self.norm1(x)))
        h = self.conv2(F.silu(self.norm2(h)))
        return self.shortcut(x) + h


class SpatialAttentionBlock(nn.Module):
    """One-head attention over all positions of a feature map, plus the input."""

    def __init__(self, channels: int, num_groups: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(num_groups, channels, eps=1e-6)
        self.attention = Attention(channels, num_heads=1, head_dim=channels, bias=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        tokens = self.norm(x).flatten(2).transpose(1, 2)
        tokens = self.attention(tokens, tokens, tokens)
        return x + tokens.transpose(1, 2).unflatten(2, x.shape[2:])


class Downsample(nn.Module):
    """Half the size; padded on the right and at the bottom only."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(F.pad(x, (0, 1, 0, 1)))


class Upsample(nn.Module):
    """Twice the size: nearest neighbour, then a convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(F.interpolate(x, scale_factor=2, mode="nearest"))


class MiddleBlock(nn.Module):
    def __init__(self, channels: int, num_groups: int) -> None:
        super().__init__()
        self.resnet1 = ResidualBlock(channels, channels, num_groups)
        self.attention = SpatialAttentionBlock(channels, num_groups)
        self.resnet2 = ResidualBlock(channels, channels, num_groups)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.resnet2(self.attention(self.resnet1(x)))


class Level(nn.Module):
    """The layers that work at one size: residual blocks, each followed by attention at the coarsest size only."""

    def __init__(self, in_channels: int, channels: int, num_resnets: int, num_groups: int, attention: bool) -> None:
        super().__init__()
        self.resnets = nn.ModuleList(
            ResidualBlock(in_channels if i == 0 else channels, channels, num_groups) for i in range(num_resnets)
        )
        self.attentions = nn.ModuleList(
            SpatialAttentionBlock(channels, num_groups) if attention else nn.Identity() for _ in range(num_resnets)
        )


class Encoder(nn.Module):
    """Image (b, 3, h, w) -> latents (b, latent_channels, grid, grid) and the features at the sizes asked for.

    The features of a size are taken after its last residual block, before the attention that may follow.
    """

    def __init__(
        self,
        patch_size: int,
        block_out_channels: list[int],
        layers_per_block: int,
        latent_channels: int,
        num_groups: int,
    ) -> None:
        super().__init__()
        self.gradient_checkpointing = False
        self.patch_size = patch_size
        self.conv_in = nn.Conv2d(3 * patch_size**2, block_out_channels[0], 3, padding=1)
        coarsest = len(block_out_channels) - 1
        widths = [block_out_channels[0], *block_out_channels]
        self.levels = nn.ModuleList(
            Level(widths[i], widths[i + 1], layers_per_block, num_groups, attention=i == coarsest)
            for i in range(coarsest + 1)
        )
        self.downsamples = nn.ModuleList(Downsample(width) for width in block_out_channels[:-1])
        self.middle = MiddleBlock(widths[-1], num_groups)
        # No activation between this norm and the last convolution, unlike diffusers' Encoder.
        self.norm_out = nn.GroupNorm(num_groups, widths[-1], eps=1e-6)
        self.conv_out = nn.Conv2d(widths[-1], latent_channels, 3, padding=1)

    def forward(self, images: torch.Tensor, feature_sizes: Container[str]) -> tuple[torch.Tensor, Features]:
        x = self.conv_in(F.pixel_unshuffle(images, self.patch_size))
        features: Features = {}
        for i, level in enumerate(self.levels):
            for resnet, attention in zip(level.resnets, level.attentions, strict=True):
                if torch.is_grad_enabled() and self.gradient_checkpointing:
                    x = self._gradient_checkpointing_func(resnet, x)
                else:
                    x = resnet(x)
                if str(x.shape[-1]) in feature_sizes:
                    features[str(x.shape[-1])] = x  # the last block of the size stays
                x = attention(x)
            if i < len(self.downsamples):
                x = self.downsamples[i](x)
        return self.conv_out(self.norm_out(self.middle(x))), features


class FeatureFusion(nn.Module):
    """Spatial feature transform (SFT): the features of the crop scale and shift those of the decoder.

    out = decoded + fidelity * (decoded * scale(e) + shift(e)),    e = encode([crop, decoded])
    """

    def __init__(self, channels: int, num_groups: int) -> None:
        super().__init__()
        self.encode = ResidualBlock(2 * channels, channels, num_groups)
        self.scale_in = nn.Conv2d(channels, channels, 3, padding=1)
        self.scale_out = nn.Conv2d(channels, channels, 3, padding=1)
        self.shift_in = nn.Conv2d(channels, channels, 3, padding=1)
        self.shift_out = nn.Conv2d(channels, channels, 3, padding=1)
        for last in (self.scale_out, self.shift_out):
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)

    def forward(self, crop_features: torch.Tensor, decoded: torch.Tensor, fidelity: torch.Tensor) -> torch.Tensor:
        e = self.encode(torch.cat([crop_features, decoded], dim=1))
        scale = self.scale_out(F.leaky_relu(self.scale_in(e), 0.2))
        shift = self.shift_out(F.leaky_relu(self.shift_in(e), 0.2))
        return decoded + fidelity * (decoded * scale + shift)


class CrossFrameAttention(nn.Module):
    """Attention of the frame (queries) to this layer's output for the previous frame (keys, values).

    The norms stand on the branches: x = x + norm1(attention(x, previous)); x = x + norm2(feedforward(x)).
    """

    def __init__(self, channels: int, num_heads: int, head_dim: int) -> None:
        super().__init__()
        self.attention = Attention(channels, num_heads, head_dim, bias=False)
        self.norm1 = nn.LayerNorm(channels)
        self.feedforward = FeedForward(channels, activation_fn="geglu")
        self.norm2 = nn.LayerNorm(channels)
        # With zero gains both branches start silent, and the gains receive gradients from the first step on.
        nn.init.zeros_(self.norm1.weight)
        nn.init.zeros_(self.norm2.weight)

    def forward(self, x: torch.Tensor, previous: torch.Tensor) -> torch.Tensor:
        tokens = x.flatten(2).transpose(1, 2)
        context = previous.flatten(2).transpose(1, 2)
        tokens = tokens + self.norm1(self.attention(tokens, context, context))
        tokens = tokens + self.norm2(self.feedforward(tokens))
        return tokens.transpose(1, 2).unflatten(2, x.shape[2:])


class Decoder(nn.Module):
    """Quantized latents (b, latent_channels, grid, grid) -> image (b, 3, h, w), guided by the two kinds of features.

    At every size where there are fusion blocks they stand after the FIRST residual block of the size, at the coarsest
    size after the last.
    """

    def __init__(
        self,
        patch_size: int,
        block_out_channels: list[int],
        layers_per_block: int,
        latent_channels: int,
        num_groups: int,
    ) -> None:
        super().__init__()
        self.gradient_checkpointing = False
        self.patch_size = patch_size
        widths = [block_out_channels[-1], *reversed(block_out_channels)]  # from the coarsest to the finest
        self.conv_in = nn.Conv2d(latent_channels, widths[0], 3, padding=1)
        self.middle = MiddleBlock(widths[0], num_groups)
        self.levels = nn.ModuleList(
            Level(widths[i], widths[i + 1], layers_per_block, num_groups, attention=i == 0)
            for i in range(len(block_out_channels))
        )
        self.upsamples = nn.ModuleList(Upsample(width) for width in widths[1:-1])
        self.norm_out = nn.GroupNorm(num_groups, widths[-1], eps=1e-6)
        self.conv_out = nn.Conv2d(widths[-1], 3 * patch_size**2, 3, padding=1)

    def forward(
        self,
        quantized: torch.Tensor,
        feature_fusion: nn.ModuleDict,
        crop_features: Features | None,
        fidelity: torch.Tensor | None,
        cross_frame: nn.ModuleDict,
        previous_features: Features | None,
    ) -> tuple[torch.Tensor, Features]:
        x = self.middle(self.conv_in(quantized))
        features: Features = {}  # what the next frame attends to
        for i, level in enumerate(self.levels):
            fusion_point = len(level.resnets) - 1 if i == 0 else 0
            for j, (resnet, attention) in enumerate(zip(level.resnets, level.attentions, strict=True)):
                if torch.is_grad_enabled() and self.gradient_checkpointing:
                    x = self._gradient_checkpointing_func(resnet, x)
                else:
                    x = resnet(x)
                if j == fusion_point:
                    size = str(x.shape[-1])
                    if size in feature_fusion and crop_features is not None:
                        x = feature_fusion[size](crop_features[size], x, fidelity)
                    if size in cross_frame:
                        if previous_features is not None:
                            x = cross_frame[size](x, previous_features[size])
                        features[size] = x
                x = attention(x)
            if i < len(self.upsamples):
                x = self.upsamples[i](x)
        return F.pixel_shuffle(self.conv_out(self.norm_out(x)), self.patch_size), features


class CodeTransformerLayer(nn.Module):
    """Pre-norm self-attention, with the position added to queries and keys but not to values, and a feedforward."""

    def __init__(self, channels: int, num_heads: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(channels)
        self.attention = Attention(channels, num_heads, channels // num_heads, bias=True)
        self.norm2 = nn.LayerNorm(channels)
        self.linear1 = nn.Linear(channels, 2 * channels)
        self.linear2 = nn.Linear(2 * channels, channels)

    def forward(self, tokens: torch.Tensor, position: torch.Tensor) -> torch.Tensor:
        value = self.norm1(tokens)
        query = value + position
        tokens = tokens + self.attention(query, query, value)
        return tokens + self.linear2(F.gelu(self.linear1(self.norm2(tokens))))


class CodeTransformer(nn.Module):
    """Latents (b, latent_channels, grid, grid) -> logits of the codes (b, n, num_codes)."""

    def __init__(
        self, latent_channels: int, num_tokens: int, channels: int, num_heads: int, num_layers: int, num_codes: int
    ) -> None:
        super().__init__()
        self.gradient_checkpointing = False
        self.linear_in = nn.Linear(latent_channels, channels)
        self.position = nn.Parameter(torch.randn(num_tokens, channels) * 0.02)
        self.layers = nn.ModuleList(CodeTransformerLayer(channels, num_heads) for _ in range(num_layers))
        self.norm_out = nn.LayerNorm(channels)
        self.to_logits = nn.Linear(channels, num_codes, bias=False)

    def forward(self, latents: torch.Tensor) -> torch.Tensor:
        tokens = self.linear_in(latents.flatten(2).transpose(1, 2))
        for layer in self.layers:
            if torch.is_grad_enabled() and self.gradient_checkpointing:
                tokens = self._gradient_checkpointing_func(layer, tokens, self.position)
            else:
                tokens = layer(tokens, self.position)
        return self.to_logits(self.norm_out(tokens))


class KeepVQModel(ModelMixin, AttentionMixin, ConfigMixin):
    """The VQ face model of KEEP; with `has_hq_encoder=False` and `adain=True` it is CodeFormer.

    Args:
        sample_size (`int`, *optional*, defaults to 512): Side of the square face crop in pixels; a multiple of
            `patch_size * 2 ** (len(block_out_channels) - 1)`.
        patch_size (`int`, *optional*, defaults to 1): Squares of so many pixels become channels before the first
            layer.
        block_out_channels (`tuple[int]`): Widths of the levels, from the finest to the coarsest.
        layers_per_block (`int`, *optional*, defaults to 2): Residual blocks a level.
        norm_num_groups (`int`, *optional*, defaults to 32): Groups of the group norms.
        latent_channels (`int`, *optional*, defaults to 256): Width of a latent and of a code.
        num_codes (`int`, *optional*, defaults to 1024): Entries of the codebook.
        transformer_channels (`int`, *optional*, defaults to 512): Width of the code transformer.
        transformer_num_heads (`int`, *optional*, defaults to 8): Its heads.
        transformer_num_layers (`int`, *optional*, defaults to 9): Its layers.
        fusion_sizes (`tuple[int]`): Sizes of feature maps at which the crop guides the decoder (SFT).
        cross_frame_sizes (`tuple[int]`): Sizes at which the decoder attends to the previous frame.
        cross_frame_num_heads (`int`, *optional*, defaults to 4): Heads of that attention.
        cross_frame_head_dim (`int`, *optional*, defaults to 256): Width of one of them.
        has_hq_encoder (`bool`, *optional*, defaults to `True`): `False` for a single-frame model.
        adain (`bool`, *optional*, defaults to `False`): Give the looked-up codes the mean and standard deviation of
            the crop's latents, channel by channel, as CodeFormer does.
    """

    _supports_gradient_checkpointing = True
    _no_split_modules = ("ResidualBlock", "SpatialAttentionBlock", "CodeTransformerLayer", "CrossFrameAttention")
    _repeated_blocks = ("ResidualBlock", "CodeTransformerLayer")
    _skip_layerwise_casting_patterns = ("codebook", "norm", "position")

    @register_to_config
    def __init__(
        self,
        sample_size: int = 512,
        patch_size: int = 1,
        block_out_channels: tuple[int, ...] = (64, 128, 128, 256, 256, 512),
        layers_per_block: int = 2,
        norm_num_groups: int = 32,
        latent_channels: int = 256,
        num_codes: int = 1024,
        transformer_channels: int = 512,
        transformer_num_heads: int = 8,
        transformer_num_layers: int = 9,
        fusion_sizes: tuple[int, ...] = (16, 32, 64),
        cross_frame_sizes: tuple[int, ...] = (16, 32),
        cross_frame_num_heads: int = 4,
        cross_frame_head_dim: int = 256,
        has_hq_encoder: bool = True,
        adain: bool = False,
    ) -> None:
        super().__init__()
        widths = list(block_out_channels)
        shrink = patch_size * 2 ** (len(widths) - 1)
        if sample_size % shrink:
            raise ValueError(f"sample_size is {sample_size}; with these levels it must be a multiple of {shrink}.")
        self.grid_size = sample_size // shrink
        channels_of_size = {sample_size // patch_size // 2**i: width for i, width in enumerate(widths)}
        for size in (*fusion_sizes, *cross_frame_sizes):
            if size not in channels_of_size:
                raise ValueError(f"No feature map has the size {size}; there are {sorted(channels_of_size)}.")

        encoder_args = (patch_size, widths, layers_per_block, latent_channels, norm_num_groups)
        self.lq_encoder = Encoder(*encoder_args)
        self.hq_encoder = Encoder(*encoder_args) if has_hq_encoder else None
        self.code_transformer = CodeTransformer(
            latent_channels,
            self.grid_size**2,
            transformer_channels,
            transformer_num_heads,
            transformer_num_layers,
            num_codes,
        )
        self.codebook = nn.Embedding(num_codes, latent_channels)
        nn.init.uniform_(self.codebook.weight, -1 / num_codes, 1 / num_codes)
        self.decoder = Decoder(*encoder_args)
        self.feature_fusion = nn.ModuleDict(
            {str(size): FeatureFusion(channels_of_size[size], norm_num_groups) for size in fusion_sizes}
        )
        self.cross_frame = nn.ModuleDict(
            {
                str(size): CrossFrameAttention(channels_of_size[size], cross_frame_num_heads, cross_frame_head_dim)
                for size in cross_frame_sizes
            }
        )

    @apply_forward_hook
    def encode_lq(self, images: torch.Tensor) -> tuple[torch.Tensor, Features]:
        """Observe degraded faces.

        Args:
            images (`torch.Tensor` of shape `(b, 3, sample_size, sample_size)`): RGB in [-1, 1].

        Returns:
            The latents `(b, latent_channels, grid, grid)` and the features at `fusion_sizes`, detached, for the
            encoder learns from the latents alone (stage 2).
        """
        self._check_images(images)
        latents, features = self.lq_encoder(images, self.feature_fusion.keys())
        return latents, {size: feature.detach() for size, feature in features.items()}

    @apply_forward_hook
    def encode_hq(self, images: torch.Tensor) -> torch.Tensor:
        """Clear faces `(b, 3, sample_size, sample_size)` in [-1, 1] -> latents `(b, latent_channels, grid, grid)`."""
        if self.hq_encoder is None:
            raise ValueError("This is a single-frame model (has_hq_encoder=False): it predicts nothing.")
        self._check_images(images)
        return self.hq_encoder(images, ())[0]

    @apply_forward_hook
    def predict_codes(self, latents: torch.Tensor) -> torch.Tensor:
        """Latents `(b, latent_channels, grid, grid)` -> logits `(b, n, num_codes)`."""
        return self.code_transformer(latents)

    @apply_forward_hook
    def lookup(self, codes: torch.Tensor, latents: torch.Tensor) -> torch.Tensor:
        """Codes `(b, n)` -> their vectors `(b, latent_channels, grid, grid)`, in the style of `latents` with AdaIN."""
        quantized = self.codebook(codes).transpose(1, 2).unflatten(2, (self.grid_size, self.grid_size))
        if self.config.adain:
            variance, mean = torch.var_mean(quantized, dim=(2, 3), keepdim=True)
            target_variance, target_mean = torch.var_mean(latents, dim=(2, 3), keepdim=True)
            quantized = (quantized - mean) * ((target_variance + 1e-5) / (variance + 1e-5)).sqrt() + target_mean
        return quantized

    @apply_forward_hook
    def nearest_codes(self, latents: torch.Tensor) -> torch.Tensor:
        """The code nearest to each latent in the Euclidean sense: `(b, latent_channels, grid, grid)` -> `(b, n)`."""
        tokens = latents.flatten(2).transpose(1, 2).float()
        codebook = self.codebook.weight.float()
        # |z - e|^2 without |z|^2, which is the same for all codes
        return (codebook.square().sum(1) - 2 * tokens @ codebook.T).argmin(-1)

    @apply_forward_hook
    def decode(
        self,
        quantized: torch.Tensor,
        crop_features: Features | None = None,
        fidelity: float | torch.Tensor = 1.0,
        previous_features: Features | None = None,
    ) -> tuple[torch.Tensor, Features]:
        """Make faces of codes.

        Args:
            quantized (`torch.Tensor` of shape `(b, latent_channels, grid, grid)`): The vectors of the codes.
            crop_features (`dict`, *optional*): From `encode_lq`; without them the codes alone make the face.
            fidelity (`float` or `torch.Tensor` of shape `(b,)`, *optional*, defaults to 1.0): Weight of the crop's
                features, from 0 (codes alone) to 1.
            previous_features (`dict`, *optional*): What `decode` returned for the previous frame.

        Returns:
            The images `(b, 3, sample_size, sample_size)`, not clamped, and the features the next frame attends to.
        """
        if isinstance(fidelity, int | float):
            if fidelity == 0:
                crop_features = None
            fidelity = quantized.new_full((quantized.shape[0],), fidelity)
        fidelity = fidelity.to(quantized.dtype)[:, None, None, None]
        return self.decoder(
            quantized, self.feature_fusion, crop_features, fidelity, self.cross_frame, previous_features
        )

    def forward(self, images: torch.Tensor) -> KeepReconstruction:
        """Reconstruct clear faces `(b, 3, sample_size, sample_size)` through the codebook (stage 1)."""
        latents = self.encode_hq(images)
        codes = self.nearest_codes(latents)
        quantized = self.codebook(codes).transpose(1, 2).unflatten(2, (self.grid_size, self.grid_size))
        quantized = latents + (quantized - latents).detach()
        return KeepReconstruction(self.decode(quantized)[0], latents, quantized, codes)

    def _check_images(self, images: torch.Tensor) -> None:
        expected = (3, self.config.sample_size, self.config.sample_size)
        if images.ndim != 4 or tuple(images.shape[1:]) != expected:
            raise ValueError(f"The images must be (b, {', '.join(map(str, expected))}); not {tuple(images.shape)}.")
