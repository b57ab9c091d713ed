"""The face model: two encoders, a code transformer, a codebook and a decoder (KEEP, arXiv 2408.05205, section 3.2).

    LQ crop ──> lq_encoder ──> latents ──> code_transformer ──> codes ──> codebook ──> decoder ──> face
                    └── features of the crop ── feature_fusion (SFT, weight = fidelity) ──┘  ^
                              features of the previous frame ── cross_frame attention ───────┘

`lq_encoder` gives the observed state (eq. 11).  `hq_encoder` gives the predicted state (eq. 12): it encodes the
previous output, warped to the current frame, into latents of the same space.  Its features can correct those of the
crop before the fusion (`feature_update`), so that the filter also covers detail that codes do not represent; the
published network has no such blocks.  Code transformer, codebook and decoder generate a frame from its state
(eq. 5, 10).

The default configuration is the published network (512 pixels, patch_size 1).  Differences from the published code:
any batch size, every size from the configuration, descriptive names of parameters, and fusion blocks of which only the
LAST layers start at zero (see `guidance`).

Legend: b images, c channels, h w pixels, n tokens of the code grid in row-major order.
"""

from typing import Any

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from diffusers.models.attention import AttentionMixin
from torch import nn

from ..built_in import BuiltInWeights
from ..offloading import entry_point
from .autoencoder import Decoder, Encoder, Features, KeepReconstruction
from .code_transformer import CodeTransformer
from .direct import DirectObservation, DirectPath, DirectState
from .guidance import CrossFrameAttention, FeatureFusion, FeatureUpdate, Guide
from .published.single_file import VQSingleFileMixin


class KeepVQModel(VQSingleFileMixin, BuiltInWeights, ModelMixin, AttentionMixin, ConfigMixin):
    """The face model of KEEP; with `has_hq_encoder=False` and `adain=True` it is CodeFormer.

    Args:
        sample_size (`int`, *optional*, defaults to 512): Side of the square face crop in pixels; a multiple of
            `patch_size * 2 ** (len(block_out_channels) - 1)`.
        patch_size (`int`, *optional*, defaults to 1): Side of the squares of pixels that become channels before the
            first layer.
        block_out_channels (`tuple[int]`): Widths of the levels, from the finest to the coarsest.
        layers_per_block (`int`, *optional*, defaults to 2): Residual blocks per level.
        norm_num_groups (`int`, *optional*, defaults to 32): Groups of the group norms.
        latent_channels (`int`, *optional*, defaults to 256): Width of a latent and of a code.
        num_codes (`int`, *optional*, defaults to 1024): Entries of the codebook.
        transformer_channels (`int`, *optional*, defaults to 512): Width of the code transformer.
        transformer_num_heads (`int`, *optional*, defaults to 8): Its heads.
        transformer_num_layers (`int`, *optional*, defaults to 9): Its layers.
        fusion_sizes (`tuple[int]`): Sizes of feature maps at which features of the crop guide the decoder (SFT).
        fusion_layers (`int`, *optional*, defaults to 1): Residual blocks of the fusion at each of these sizes.
        feature_update_sizes (`tuple[int]`, *optional*, defaults to `()`): Those of the `fusion_sizes` at which
            features of the prediction correct the features of the crop.
        cross_frame_sizes (`tuple[int]`): Sizes at which the decoder attends to the previous frame (CFA, section 3.3).
        cross_frame_num_heads (`int`, *optional*, defaults to 4): Heads of that attention.
        cross_frame_head_dim (`int`, *optional*, defaults to 256): Width of one head.
        has_hq_encoder (`bool`, *optional*, defaults to `True`): `False` for a single-frame model.
        adain (`bool`, *optional*, defaults to `False`): Whether the vectors of the codes get the mean and standard
            deviation of the crop's latents, channel by channel, as in CodeFormer.
        direct_channels (`tuple[int]`, *optional*, defaults to `()`): Widths of the levels of the direct path, from the
            finest to the coarsest, multiples of 8 and the last one of 16; without them the model has none, as the
            published network.
        direct_units (`tuple[int]`, *optional*): Residual units of each of these levels.

    Raises:
        ValueError: If sizes do not fit each other.
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
        direct_channels: tuple[int, ...] = (),
        direct_units: tuple[int, ...] = (1, 2, 2, 3),
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
            raise ValueError(f"fusion_layers is {fusion_layers}; it must be at least 1.")
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
        # Group offloading by blocks: the parts that are called; those of the guide have their sizes as names.
        self._group_offload_block_modules = [
            *(name for name, _ in self.named_children()),
            *map(str, (*fusion_sizes, *cross_frame_sizes)),
            "direct",
        ]
        self.direct: DirectPath | None = None
        if direct_channels:
            self.direct = DirectPath(sample_size, channels=direct_channels, units_per_level=direct_units)

    def compile(self, *args: Any, **kwargs: Any) -> None:
        """Compile the parts that the methods of the model call; the arguments are those of `torch.compile`.

        `dynamic` is always `False`: features are chosen by their sizes, which a graph for any size does not know.
        """
        parts = [self.lq_encoder, self.hq_encoder, *self.feature_update.values(), self.code_transformer, self.decoder]
        if self.direct is not None:
            parts += [*self.direct.encoder, self.direct.middle, *self.direct.decoder, self.direct.tail]
        for part in parts:
            if part is not None:
                part.compile(*args, **kwargs | {"dynamic": False})

    @entry_point
    def observe_direct(self, images: torch.Tensor) -> DirectObservation:
        """Features of the direct path of degraded faces `(b, 3, sample_size, sample_size)`, RGB in [-1, 1].

        Raises:
            ValueError: If the images have another size, or the model has no direct path.
        """
        self._check_images(images)
        return self._direct_path().observe(images)

    @entry_point
    def restore_direct(
        self,
        observation: DirectObservation,
        images: torch.Tensor,
        state: DirectState | None = None,
        previous_images: torch.Tensor | None = None,
        flow: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, DirectState]:
        """Filter the features of one frame and restore it; see [`DirectPath`].

        Args:
            observation (`DirectObservation`): From `observe_direct`.
            images (`torch.Tensor` of shape `(b, 3, sample_size, sample_size)`): The degraded faces.
            state (`DirectState`, *optional*): After the previous frame; `None` for the first one.
            previous_images (`torch.Tensor` of the same shape, *optional*): The degraded faces of the previous frame.
            flow (`torch.Tensor` of shape `(b, 2, sample_size, sample_size)`, *optional*): From the faces to the
                previous ones, in pixels.

        Returns:
            The restored faces, not clamped, and the state for the next frame.
        """
        direct = self._direct_path()
        state = direct.update(observation, state, flow, images, previous_images)
        return direct.generate(images, state), state

    def _direct_path(self) -> DirectPath:
        if self.direct is None:
            raise ValueError("This model has no direct path (direct_channels is empty).")
        return self.direct

    @entry_point
    def encode_lq(self, images: torch.Tensor) -> tuple[torch.Tensor, Features]:
        """Encode degraded faces: the observed state (eq. 11).

        Args:
            images (`torch.Tensor` of shape `(b, 3, sample_size, sample_size)`): RGB in [-1, 1].

        Returns:
            The latents `(b, latent_channels, grid, grid)` and the features at `fusion_sizes`.  The features are
            detached, because the encoder learns from the latents only (stage 2).

        Raises:
            ValueError: If the images have another size.
        """
        self._check_images(images)
        latents, features = self.lq_encoder(images, self.config.fusion_sizes)
        return latents, {size: feature.detach() for size, feature in features.items()}

    @entry_point
    def encode_hq(self, images: torch.Tensor) -> tuple[torch.Tensor, Features]:
        """Encode clear faces; for the previous output, warped to the current frame, the predicted state (eq. 12).

        Args:
            images (`torch.Tensor` of shape `(b, 3, sample_size, sample_size)`): RGB around [-1, 1].

        Returns:
            The latents `(b, latent_channels, grid, grid)` and the features at `feature_update_sizes`.

        Raises:
            ValueError: If the images have another size, or the model has no HQ encoder.
        """
        if self.hq_encoder is None:
            raise ValueError("This is a single-frame model (has_hq_encoder=False): it has no prediction.")
        self._check_images(images)
        return self.hq_encoder(images, self.config.feature_update_sizes)

    @entry_point
    def update_features(self, observed: Features, predicted: Features) -> Features:
        """Correct the features of the crop, from `encode_lq`, by those of the prediction, from `encode_hq`.

        Returns:
            The features at `fusion_sizes`; those at other sizes than `feature_update_sizes` are unchanged.
        """
        sizes = self.config.feature_update_sizes
        return observed | {size: self.feature_update[str(size)](observed[size], predicted[size]) for size in sizes}

    @entry_point
    def predict_codes(self, latents: torch.Tensor) -> torch.Tensor:
        """Latents `(b, latent_channels, grid, grid)` -> logits `(b, n, num_codes)`."""
        return self.code_transformer(latents)

    @entry_point
    def lookup(self, codes: torch.Tensor, latents: torch.Tensor) -> torch.Tensor:
        """Codes `(b, n)` -> their vectors `(b, latent_channels, grid, grid)`.

        With `adain` every channel gets the mean and standard deviation that it has in `latents`, a tensor of the same
        shape.
        """
        quantized = self._vectors(codes)
        if self.config.adain:
            variance, mean = torch.var_mean(quantized, dim=(2, 3), keepdim=True)
            target_variance, target_mean = torch.var_mean(latents, dim=(2, 3), keepdim=True)
            quantized = (quantized - mean) * ((target_variance + 1e-5) / (variance + 1e-5)).sqrt() + target_mean
        return quantized

    @entry_point
    def nearest_codes(self, latents: torch.Tensor) -> torch.Tensor:
        """Latents `(b, latent_channels, grid, grid)` -> codes `(b, n)` of the smallest Euclidean distance."""
        tokens = latents.flatten(2).transpose(1, 2).float()
        # A call, not a look at the weight: the weight may be offloaded.
        codebook = self.codebook(torch.arange(self.config.num_codes, device=latents.device)).float()
        # |z - e|^2 without |z|^2, which is the same for all codes
        return (codebook.square().sum(1) - 2 * tokens @ codebook.T).argmin(-1)

    @entry_point
    def decode(
        self,
        quantized: torch.Tensor,
        crop_features: Features | None = None,
        fidelity: float | torch.Tensor = 1.0,
        previous_features: Features | None = None,
    ) -> tuple[torch.Tensor, Features]:
        """Generate faces from the vectors of their codes (eq. 5, 10).

        Args:
            quantized (`torch.Tensor` of shape `(b, latent_channels, grid, grid)`): From `lookup`.
            crop_features (`dict[int, torch.Tensor]`, *optional*): From `encode_lq` or `update_features`; without them
                only the codes determine the face.
            fidelity (`float` or `torch.Tensor` of shape `(b,)`, *optional*, defaults to 1.0): Weight of the crop's
                features, from 0 (only the codes count) to 1.
            previous_features (`dict[int, torch.Tensor]`, *optional*): Features that `decode` returned for the
                previous frame; without them there is no cross-frame attention (eq. 13).

        Returns:
            The images `(b, 3, sample_size, sample_size)`, RGB around [-1, 1], not clamped, and the features at
            `cross_frame_sizes`, for the next frame.
        """
        if isinstance(fidelity, int | float):
            if fidelity == 0:
                crop_features = None
            fidelity = quantized.new_full((quantized.shape[0],), fidelity)
        fidelity = fidelity.to(quantized.dtype)[:, None, None, None]
        guide = Guide(self.feature_fusion, crop_features, fidelity, self.cross_frame, previous_features)
        return self.decoder(quantized, guide, self.config.cross_frame_sizes)

    def forward(self, images: torch.Tensor, return_dict: bool = True) -> KeepReconstruction | tuple[torch.Tensor, ...]:
        """Reconstruct clear faces through the codebook (stage 1 of the training).

        Args:
            images (`torch.Tensor` of shape `(b, 3, sample_size, sample_size)`): RGB in [-1, 1].
            return_dict (`bool`, *optional*, defaults to `True`): Whether to return a [`KeepReconstruction`].

        Returns:
            [`KeepReconstruction`] or a tuple of its fields.

        Raises:
            ValueError: If the images have another size, or the model has no HQ encoder.
        """
        latents, _ = self.encode_hq(images)
        codes = self.nearest_codes(latents)
        quantized = self._vectors(codes)
        quantized = latents + (quantized - latents).detach()
        output = (self.decode(quantized)[0], latents, quantized, codes)
        return KeepReconstruction(*output) if return_dict else output

    def _vectors(self, codes: torch.Tensor) -> torch.Tensor:
        return self.codebook(codes).transpose(1, 2).unflatten(2, (self.grid_size, self.grid_size))

    def _check_images(self, images: torch.Tensor) -> None:
        expected = (3, self.config.sample_size, self.config.sample_size)
        if images.ndim != 4 or tuple(images.shape[1:]) != expected:
            raise ValueError(f"The images must be (b, {', '.join(map(str, expected))}); not {tuple(images.shape)}.")
