"""Loading and saving of the pipeline: names, folders, the Hub, and published checkpoint files."""

import os
import tempfile
from pathlib import Path
from typing import Any, TypeVar

import torch
from diffusers import DiffusionPipeline
from huggingface_hub import create_repo, file_exists, snapshot_download, upload_folder

from ..built_in import check_variant, find_built_in
from ..downloads.cards import write_card
from ..downloads.checkpoints import check_checkpoint, locate_checkpoint
from ..downloads.options import DownloadOptions
from ..downloads.releases import RELEASES, install_release
from ..faces.detector import FaceDetector
from ..faces.yunet import YuNet
from ..loading_errors import check_weights, report_load_errors
from ..models.checkpoint_files import load_checkpoint
from ..models.conversion import convert_checkpoint
from .model_card import CardContents, format_model_card
from .remote_code import write_remote_code


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
            kwargs: As for `DiffusionPipeline.from_pretrained`: `dtype`, `variant`, `revision`, `cache_dir`, `token`,
                `local_files_only`, components, settings, ...; and `subfolder`, the folder of the pipeline in a
                repository that has several.

        Raises:
            OSError: If something is missing and cannot be downloaded; for published weights, the message says where to
                place the file.
            ValueError: If a built-in pipeline has no such variant, or a file is damaged or does not fit the networks.
        """
        downloads = DownloadOptions.from_arguments(kwargs)
        if find_built_in(name) is not None:
            check_variant(name, kwargs.pop("variant", None))
        name = cls._find_folder(name, downloads) or name
        subfolder = kwargs.pop("subfolder", None)
        if subfolder is not None:
            if not Path(name).is_dir():
                name = snapshot_download(str(name), allow_patterns=f"{subfolder}/*", **vars(downloads))
            name = Path(name) / subfolder
        with report_load_errors(name):
            pipe = super().from_pretrained(name, **kwargs)
        pipe._downloads = downloads.at(None)
        return pipe

    @classmethod
    def _find_folder(cls, name: str | os.PathLike, downloads: DownloadOptions) -> Path | None:
        """The folder of a pipeline that has a name here, downloaded if need be; `None` for folders and Hub ids."""
        if str(name) in RELEASES and not Path(name).is_dir():
            return install_release(RELEASES[str(name)], cls._convert, downloads)
        return find_built_in(name)

    @classmethod
    def _convert(cls, checkpoint: Path, folder: Path) -> None:
        cls.from_single_file(checkpoint).save_pretrained(folder)

    @classmethod
    def load_config(cls, pretrained_model_name_or_path: str | os.PathLike, **kwargs: Any) -> Any:
        """Read `model_index.json` of a pipeline; arguments as for `from_pretrained`."""
        name = pretrained_model_name_or_path
        folder = cls._find_folder(name, DownloadOptions.from_arguments(kwargs))
        return super().load_config(folder or name, **kwargs)

    @classmethod
    def download(cls, name: str, **kwargs: Any) -> str | os.PathLike:
        """Download a pipeline from the Hub or published weights; a built-in pipeline is there already.

        Returns:
            `str` or `os.PathLike`: The folder.
        """
        if find_built_in(name) is not None:
            check_variant(name, kwargs.get("variant"))
        folder = cls._find_folder(name, DownloadOptions.from_arguments(kwargs))
        return folder or super().download(name, **kwargs)

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
        for component in components.values():
            check_weights(checkpoint, component)
        if "vq" not in components:
            raise ValueError(f"{checkpoint} holds only GMFlow; a pipeline needs a checkpoint of KEEP or CodeFormer.")
        for component in components.values():
            # ModelMixin.to warns about modules to keep in float32; there are none.
            torch.nn.Module.to(component, dtype or torch_dtype or torch.float32)
        pipe = cls(**components, detector=detector, release=origin.release, checkpoint_sha256=origin.sha256)
        pipe._downloads = downloads.at(None)
        return pipe

    def save_pretrained(
        self,
        save_directory: str | os.PathLike,
        *args: Any,
        push_to_hub: bool = False,
        repo_id: str | None = None,
        commit_message: str | None = None,
        private: bool | None = None,
        token: str | bool | None = None,
        create_pr: bool = False,
        **kwargs: Any,
    ) -> None:
        """Save the pipeline with a model card, and with the code that `trust_remote_code=True` needs.

        Args:
            save_directory (`str` or `os.PathLike`): The folder; it is created. A model card in it (`README.md`) stays,
                unless these are published weights and their licence is not in it.
            args, kwargs: As for `DiffusionPipeline.save_pretrained`: `variant`, `max_shard_size`, ...
            push_to_hub (`bool`, *optional*, defaults to `False`): Also upload the folder.
            repo_id (`str`, *optional*): Repository, which the model card names, and which is created if it does not
                exist; by default it is named like the folder.
            commit_message, private, token, create_pr: See `push_to_hub`.
        """
        folder = Path(save_directory)
        name = repo_id or folder.resolve().name
        super().save_pretrained(folder, *args, **kwargs)
        write_remote_code(folder)
        card = folder / "README.md"
        release = RELEASES.get(self.config.release)
        # A card of other weights must not hide the licence of these.
        if release and (not card.exists() or release.licence_url not in card.read_text(encoding="utf-8")):
            write_card(release, self.config.checkpoint_sha256, folder)
        elif not card.exists():
            contents = CardContents(licence=self.config.licence)
            card.write_text(format_model_card(self, name, contents), encoding="utf-8")
        if push_to_hub:
            _upload(folder, name, commit_message, private, token, create_pr)

    def push_to_hub(
        self,
        repo_id: str,
        commit_message: str | None = None,
        private: bool | None = None,
        token: str | bool | None = None,
        create_pr: bool = False,
        safe_serialization: bool = True,
        variant: str | None = None,
        subfolder: str | None = None,
    ) -> str:
        """Upload the pipeline with a model card, and with the code that `trust_remote_code=True` needs.

        Args:
            repo_id (`str`): Repository, created if it does not exist. If it has a model card, that one stays.
            commit_message (`str`, *optional*): By default "Upload KeepPipeline".
            private (`bool`, *optional*): Create a private repository.
            token (`str`, *optional*): By default the one of `hf auth login`.
            create_pr (`bool`, *optional*, defaults to `False`): Open a pull request instead of committing.
            safe_serialization, variant: See `save_pretrained`.
            subfolder (`str`, *optional*): Folder in the repository; `from_pretrained` takes it, too.

        Returns:
            `str`: The address of the commit.
        """
        with tempfile.TemporaryDirectory() as temporary:
            self.save_pretrained(temporary, safe_serialization=safe_serialization, variant=variant, repo_id=repo_id)
            return _upload(Path(temporary), repo_id, commit_message, private, token, create_pr, subfolder)


def _upload(
    folder: Path,
    repo_id: str,
    commit_message: str | None,
    private: bool | None,
    token: str | bool | None,
    create_pr: bool,
    subfolder: str | None = None,
) -> str:
    """Upload a folder; a model card that is in the repository stays."""
    repo_id = create_repo(repo_id, private=private, token=token, exist_ok=True).repo_id
    card = f"{subfolder}/README.md" if subfolder else "README.md"
    return upload_folder(
        repo_id=repo_id,
        folder_path=folder,
        path_in_repo=subfolder,
        commit_message=commit_message or "Upload KeepPipeline",
        token=token,
        create_pr=create_pr,
        ignore_patterns=["README.md"] if file_exists(repo_id, card, token=token) else None,
    )
