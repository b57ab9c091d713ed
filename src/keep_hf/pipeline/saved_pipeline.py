"""Loading and saving of the pipeline: built-in names, folders, the Hub, and published checkpoint files."""

import os
from pathlib import Path
from typing import Any, TypeVar

import torch
from diffusers import DiffusionPipeline

from ..faces.detector import FaceDetector
from ..faces.yunet import YuNet
from ..models.checkpoint_files import load_checkpoint
from ..models.conversion import convert_checkpoint


CHECKPOINTS = Path(__file__).parents[1] / "checkpoints"
BUILT_IN = {name: CHECKPOINTS / name for name in ("keep-small", "keep-tiny")}
Pipeline = TypeVar("Pipeline", bound="SavedPipeline")


class SavedPipeline(DiffusionPipeline):
    """The part of [`KeepPipeline`] that loads and saves it."""

    @classmethod
    def from_pretrained(cls: type[Pipeline], name: str | os.PathLike, **kwargs: Any) -> Pipeline:
        """Load a pipeline from the package ("keep-small" or "keep-tiny"), a folder, or the Hub.

        Args:
            name (`str` or `os.PathLike`): Built-in name, folder, or Hub id. A folder goes before a built-in name.
            kwargs: As for `DiffusionPipeline.from_pretrained`: `dtype`, `variant`, `cache_dir`, components, ...
        """
        if str(name) in BUILT_IN and not Path(name).is_dir():
            name = BUILT_IN[str(name)]
        return super().from_pretrained(name, **kwargs)

    @classmethod
    def from_single_file(
        cls: type[Pipeline],
        checkpoint: str | os.PathLike,
        *,
        detector: FaceDetector | YuNet | None = None,
        dtype: torch.dtype = torch.float32,
        **config: Any,
    ) -> Pipeline:
        """Build a pipeline from a published checkpoint of KEEP or CodeFormer.

        Args:
            checkpoint (`str` or `os.PathLike`): The file. No code in it is executed.
            detector ([`FaceDetector`] or [`YuNet`], *optional*): Face detector, see [`KeepPipeline`].
            dtype (`torch.dtype`, *optional*, defaults to `torch.float32`): Data type of the networks.
            config: Settings that the weights do not determine; see
                [`keep_hf.models.conversion.convert_checkpoint`].

        Raises:
            ValueError: If the file is missing or damaged, or holds another network; the message names what does not
                fit.
        """
        components = convert_checkpoint(load_checkpoint(checkpoint), **config)
        if "vq" not in components:
            raise ValueError(f"{checkpoint} holds only GMFlow; a pipeline needs a checkpoint of KEEP or CodeFormer.")
        for component in components.values():
            # ModelMixin.to warns about modules to keep in float32; there are none.
            torch.nn.Module.to(component, dtype)
        return cls(**components, detector=detector)
