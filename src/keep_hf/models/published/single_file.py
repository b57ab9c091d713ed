"""`KeepVQModel.from_single_file`."""

import os
from typing import Any

import torch

from ...downloads.checkpoints import check_checkpoint, locate_checkpoint
from ...downloads.options import DownloadOptions
from ..checkpoint_files import load_checkpoint
from .vq_weights import build_vq
from .weights import Model, split


class VQSingleFileMixin:
    """Gives the face model `from_single_file`."""

    @classmethod
    def from_single_file(
        cls: type[Model],
        checkpoint: str | os.PathLike,
        *,
        dtype: torch.dtype | None = None,
        torch_dtype: torch.dtype | None = None,
        cache_dir: str | os.PathLike | None = None,
        local_files_only: bool = False,
        force_download: bool = False,
        revision: str | None = None,
        token: str | bool | None = None,
        **config: Any,
    ) -> Model:
        """Build the face model from a published checkpoint of KEEP or CodeFormer.

        The arguments and errors are those of [`KeepPipeline.from_single_file`].
        """
        path = locate_checkpoint(checkpoint, DownloadOptions.from_arguments(locals()))
        check_checkpoint(path)
        model = build_vq(cls, split(load_checkpoint(path)).vq, **config)
        # ModelMixin.to warns about modules to keep in float32; there are none.
        torch.nn.Module.to(model, dtype or torch_dtype or torch.float32)
        return model
