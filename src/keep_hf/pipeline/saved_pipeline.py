"""Loading and saving of the pipeline: names, folders, the Hub, and published checkpoint files."""

import os
from pathlib import Path
from typing import Any, TypeVar

import torch
from diffusers import DiffusionPipeline

from ..downloads.cards import write_card
from ..downloads.checkpoints import check_checkpoint, locate_checkpoint
from ..downloads.options import DownloadOptions
from ..downloads.releases import RELEASES, install_release
from ..faces.detector import FaceDetector
from ..faces.yunet import YuNet
from ..models.checkpoint_files import load_checkpoint
from ..models.conversion import convert_checkpoint


CHECKPOINTS = Path(__file__).parents[1] / "checkpoints"
BUILT_IN = {name: CHECKPOINTS / name for name in ("keep-small", "keep-tiny")}
Pipeline = TypeVar("Pipeline", bound="SavedPipeline")


class SavedPipeline(DiffusionPipeline):
    """The part of [`KeepPipeline`] that loads and saves it."""

    _downloads: DownloadOptions

    @classmethod
    def from_pretrained(cls: type[Pipeline], name: str | os.PathLike, **kwargs: Any) -> Pipeline:
        """Load a pipeline from the package, from a folder, from the Hub, or the published weights.

        The published weights, "keep", "keep-asian" and "codeformer", are downloaded from the release pages of their
        authors on first use, and converted once. Their licence allows non-commercial use only.

        Args:
            name (`str` or `os.PathLike`): "keep-small" or "keep-tiny", which are in the package; "keep", "keep-asian"
                or "codeformer"; a folder; or a Hub id. A folder goes before the other names.
            kwargs: As for `DiffusionPipeline.from_pretrained`: `dtype`, `variant`, `cache_dir`, `local_files_only`,
                components, ...

        Raises:
            OSError: If something is missing and cannot be downloaded; for published weights, the message says where to
                place the file.
            ValueError: If a downloaded file is damaged or does not fit the networks.
        """
        downloads = DownloadOptions.from_arguments(kwargs)
        if not Path(name).is_dir():
            if str(name) in BUILT_IN:
                name = BUILT_IN[str(name)]
            elif str(name) in RELEASES:
                name = install_release(RELEASES[str(name)], cls._convert, downloads)
        pipe = super().from_pretrained(name, **kwargs)
        pipe._downloads = downloads.at(None)
        return pipe

    @classmethod
    def _convert(cls, checkpoint: Path, folder: Path) -> None:
        cls.from_single_file(checkpoint).save_pretrained(folder)

    @classmethod
    def from_single_file(
        cls: type[Pipeline],
        checkpoint: str | os.PathLike,
        *,
        detector: FaceDetector | YuNet | None = None,
        dtype: torch.dtype | None = None,
        torch_dtype: torch.dtype | None = None,
        cache_dir: str | os.PathLike | None = None,
        local_files_only: bool = False,
        force_download: bool = False,
        revision: str | None = None,
        token: str | bool | None = None,
        **config: Any,
    ) -> Pipeline:
        """Build a pipeline from a published checkpoint of KEEP or CodeFormer.

        Args:
            checkpoint (`str` or `os.PathLike`): The file: its path, its address (`https://...`), or a file in a
                repository on the Hub (`owner/repository/file.pth`). No code in it is executed.
            detector ([`FaceDetector`] or [`YuNet`], *optional*): Face detector, see [`KeepPipeline`].
            dtype, torch_dtype (`torch.dtype`, *optional*, defaults to `torch.float32`): Data type of the networks;
                `torch_dtype` is its former name in diffusers.
            cache_dir, local_files_only, force_download, revision, token (*optional*): For a file that must be
                downloaded, see [`keep_hf.downloads.options.DownloadOptions`].
            config: Settings that the weights do not determine; see
                [`keep_hf.models.conversion.convert_checkpoint`].

        Raises:
            ValueError: If the file is missing or damaged, or holds another network; the message names what does not
                fit.
            OSError: If the file cannot be downloaded.
        """
        downloads = DownloadOptions.from_arguments(locals())
        path = locate_checkpoint(checkpoint, downloads)
        origin = check_checkpoint(path)
        components = convert_checkpoint(load_checkpoint(path), **config)
        if "vq" not in components:
            raise ValueError(f"{checkpoint} holds only GMFlow; a pipeline needs a checkpoint of KEEP or CodeFormer.")
        for component in components.values():
            # ModelMixin.to warns about modules to keep in float32; there are none.
            torch.nn.Module.to(component, dtype or torch_dtype or torch.float32)
        pipe = cls(**components, detector=detector, release=origin.release, checkpoint_sha256=origin.sha256)
        pipe._downloads = downloads.at(None)
        return pipe

    def save_pretrained(self, save_directory: str | os.PathLike, *args: Any, **kwargs: Any) -> None:
        """Save as `DiffusionPipeline.save_pretrained`; published weights get a model card with their licence."""
        if self.config.release in RELEASES:
            write_card(RELEASES[self.config.release], self.config.checkpoint_sha256, Path(save_directory))
        super().save_pretrained(save_directory, *args, **kwargs)
