"""The face model: two encoders, a code transformer, a codebook and a decoder (KEEP, arXiv 2408.05205).

    LQ crop ──> lq_encoder ──> latents ──> code_transformer ──> codes ──> codebook ──> decoder ──> face
                    └── features of the crop ── feature_fusion (SFT, weight = fidelity) ──┘  ^
                              features of the previous frame ── cross_frame attention ───────┘

`hq_encoder` turns a clear face (the previous output, moved to now) into latents of the same space: the prediction of
the Kalman filter.  Its features may correct those of the crop on their way to the fusion (`feature_update`), so that
the filter reaches the detail that codes cannot hold; the published network has none of it.

The published network (512 pixels, patch_size 1) is the default configuration.  Against the official code: any batch
size, every size from the configuration, names instead of block numbers, and fusion blocks whose LAST layers alone
start at zero, for with every layer at zero no gradient ever reaches them.

Legend: b images, c channels, h w pixels, n tokens of the code grid in row-major order.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from diffusers.models.attention import AttentionMixin
from diffusers.utils.accelerate_utils import apply_forward_hook
from torch import nn

from .autoencoder import Decoder, Encoder, Features
from .guidance import CrossFrameAttention, FeatureFusion, FeatureUpdate, Guide
from .layers import Attention, Linear


class KeepReconstruction(NamedTuple):
    """What the autoencoder makes of clear faces (stage 1 of the training)."""

    images: torch.Tensor  # (b, 3, h, w)
    latents: torch.Tensor  # (b, c, grid, grid), before quantization
    quantized: torch.Tensor  # (b, c, grid, grid), the nearest codes, straight-through to the latents
    codes: torch.Tensor  # (b, n)


class CodeTransformerLayer(nn.Module):
    """Pre-norm self-attention, with the position added to queries and keys but not to values, and a feedforward."""

    def __init__(self, channels: int, num_heads: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(channels)
        self.attention = Attention(channels, num_heads, channels // num_heads, bias=True)
        self.norm2 = nn.LayerNorm(channels)
        self.linear1 = Linear(channels, 2 * channels)
        self.linear2 = Linear(2 * channels, channels)

    def forward(self, tokens: torch.Tensor, position: torch.Tensor) -> torch.Tensor:
        value = self.norm1(tokens)
        query = value + position
        tokens = tokens + self.attention(query, query, value)
        return tokens + self.linear2(F.gelu(self.linear1(self.norm2(tokens))))


class CodeLogits(Linear):
    """Linear layer to the logits of the codes, never in half precision: there, the largest logits are often equal."""

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        if self.weight.dtype.itemsize < 4:
            return F.linear(tokens.float(), self.weight.float())
        return super().forward(tokens)


class CodeTransformer(nn.Module):
    """Latents (b, latent_channels, grid, grid) -> logits of the codes (b, n, num_codes), never in half precision."""

    def __init__(
        self, latent_channels: int, num_tokens: int, channels: int, num_heads: int, num_layers: int, num_codes: int
    ) -> None:
        super().__init__()
        self.gradient_checkpointing = False
        self.linear_in = Linear(latent_channels, channels)
        self.position = nn.Parameter(torch.randn(num_tokens, channels) * 0.02)
        self.layers = nn.ModuleList(CodeTransformerLayer(channels, num_heads) for _ in range(num_layers))
        self.norm_out = nn.LayerNorm(channels)
        self.to_logits = CodeLogits(channels, num_codes, bias=False)

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
        fusion_layers (`int`, *optional*, defaults to 1): Residual blocks of the fusion at each of these sizes.
        feature_update_sizes (`tuple[int]`, *optional*, defaults to `()`): Of these, the sizes at which the prediction
            corrects what is seen of the crop.
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
        fusion_layers: int = 1,
        feature_update_sizes: tuple[int, ...] = (),
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
        if fusion_layers < 1:
            raise ValueError(f"fusion_layers is {fusion_layers}; a fusion block has at least one.")
        if not set(feature_update_sizes) <= set(fusion_sizes if has_hq_encoder else ()):
            raise ValueError(
                f"feature_update_sizes are {tuple(feature_update_sizes)}; they must be among the fusion_sizes, "
                f"{tuple(fusion_sizes)}, of a model with an HQ encoder."
            )

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
            {str(size): FeatureFusion(channels_of_size[size], norm_num_groups, fusion_layers) for size in fusion_sizes}
        )
        self.feature_update = nn.ModuleDict(
            {str(size): FeatureUpdate(channels_of_size[size], norm_num_groups) for size in feature_update_sizes}
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
        latents, features = self.lq_encoder(images, self.config.fusion_sizes)
        return latents, {size: feature.detach() for size, feature in features.items()}

    @apply_forward_hook
    def encode_hq(self, images: torch.Tensor) -> tuple[torch.Tensor, Features]:
        """Encode clear faces; of the previous output, moved to now, it is the prediction.

        Args:
            images (`torch.Tensor` of shape `(b, 3, sample_size, sample_size)`): RGB around [-1, 1].

        Returns:
            The latents `(b, latent_channels, grid, grid)` and the features at `feature_update_sizes`.

        Raises:
            ValueError: If the images have another size, or the model has no such encoder.
        """
        if self.hq_encoder is None:
            raise ValueError("This is a single-frame model (has_hq_encoder=False): it predicts nothing.")
        self._check_images(images)
        return self.hq_encoder(images, self.config.feature_update_sizes)

    @apply_forward_hook
    def update_features(self, observed: Features, predicted: Features) -> Features:
        """Correct the features of the crop, from `encode_lq`, by those of the prediction, from `encode_hq`."""
        sizes = self.config.feature_update_sizes
        return observed | {size: self.feature_update[str(size)](observed[size], predicted[size]) for size in sizes}

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
        guide = Guide(self.feature_fusion, crop_features, fidelity, self.cross_frame, previous_features)
        return self.decoder(quantized, guide, self.config.cross_frame_sizes)

    def forward(self, images: torch.Tensor) -> KeepReconstruction:
        """Reconstruct clear faces `(b, 3, sample_size, sample_size)` through the codebook (stage 1)."""
        latents, _ = self.encode_hq(images)
        codes = self.nearest_codes(latents)
        quantized = self.codebook(codes).transpose(1, 2).unflatten(2, (self.grid_size, self.grid_size))
        quantized = latents + (quantized - latents).detach()
        return KeepReconstruction(self.decode(quantized)[0], latents, quantized, codes)

    def _check_images(self, images: torch.Tensor) -> None:
        expected = (3, self.config.sample_size, self.config.sample_size)
        if images.ndim != 4 or tuple(images.shape[1:]) != expected:
            raise ValueError(f"The images must be (b, {', '.join(map(str, expected))}); not {tuple(images.shape)}.")
