"""The published checkpoints that have a name here, and their installation into the cache.

A checkpoint is downloaded from the release page of its authors, checked and converted once. The cache then holds a
pipeline in safetensors, in a folder of the `assets` of huggingface_hub; the downloaded file is removed.
"""

import os
import shutil
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import constants
from huggingface_hub.utils import WeakFileLock
from safetensors import SafetensorError

from .files import download_file
from .options import DownloadOptions


GITHUB = "https://github.com"
# The address of a mirror of GitHub's release files.
MIRROR_VARIABLE = "KEEP_HF_GITHUB_ENDPOINT"
# Folder of a converted checkpoint. The number changes with the names or shapes of the weights, so that a conversion by
# another version of the package is not loaded.
CONVERTED = "pipeline-1"


@dataclass(frozen=True)
class Release:
    """A published checkpoint.

    Attributes:
        name (`str`): Its name here.
        title (`str`): Its name in a model card.
        repository (`str`): Repository on GitHub that published it.
        tag (`str`): Its release there.
        file (`str`): Name of the file.
        sha256 (`str`): The first digits of the file's SHA-256, as many as are known.
        licence_url (`str`): Its licence.
    """

    name: str
    title: str
    repository: str
    tag: str
    file: str
    sha256: str
    licence_url: str

    licence = "NTU S-Lab License 1.0, which allows non-commercial use only"

    @property
    def url(self) -> str:
        """Address of the file."""
        host = os.environ.get(MIRROR_VARIABLE, GITHUB).rstrip("/")
        return f"{host}/{self.repository}/releases/download/{self.tag}/{self.file}"


KEEP_LICENCE = "https://github.com/jnjaby/KEEP/blob/main/LICENSE"
CODEFORMER_LICENCE = "https://github.com/sczhou/CodeFormer/blob/master/LICENSE"
# By the convention of the field, 8 digits in a file name are the first ones of its SHA-256. That of CodeFormer is the
# one that users of the file have published.
RELEASES = {
    release.name: release
    for release in (
        Release("keep", "KEEP", "jnjaby/KEEP", "v1.0.0", "KEEP-b76feb75.pth", "b76feb75", KEEP_LICENCE),
        Release(
            "keep-asian", "KEEP (Asian)", "jnjaby/KEEP", "v1.0.0", "KEEP_Asian-4765ebe0.pth", "4765ebe0", KEEP_LICENCE
        ),
        Release(
            "codeformer",
            "CodeFormer",
            "sczhou/CodeFormer",
            "v0.1.0",
            "codeformer.pth",
            "1009e537e0c2a07d4cabce6355f53cb66767cd4b4297ec7a4a64ca4b8a5684b7",
            CODEFORMER_LICENCE,
        ),
    )
}
RELEASED_FILES = {release.file: release for release in RELEASES.values()}


def install_release(release: Release, convert: Callable[[Path, Path], None], options: DownloadOptions) -> Path:
    """Return the folder with the converted release; download and convert it first if it is not in the cache.

    Several processes may do so at the same time: one works, the others wait.

    Args:
        release ([`Release`]): The release.
        convert (`Callable`): Writes a checkpoint (the first argument) as a pipeline to a folder (the second one).
        options ([`DownloadOptions`]): The cache, and whether to download.

    Raises:
        OSError: If the file is missing and cannot be downloaded, or the cache cannot be written.
        ValueError: If the file is damaged or does not fit the networks.
    """
    folder = options.assets_folder("releases", release.name)
    converted = folder / CONVERTED
    if converted.is_dir() and not options.force_download:
        return converted  # also from a cache that cannot be written
    with WeakFileLock(folder / ".lock"):
        if not converted.is_dir() or options.force_download:
            _install(release, convert, converted, options)
    return converted


def _install(release: Release, convert: Callable[[Path, Path], None], target: Path, options: DownloadOptions) -> None:
    checkpoint = target.with_name(release.file)
    # A file that the user placed here is used, and kept.
    is_placed = checkpoint.is_file()
    if not is_placed:
        download_release(release, checkpoint, options)
    try:
        with tempfile.TemporaryDirectory(dir=target.parent, ignore_cleanup_errors=True) as temporary:
            convert(checkpoint, Path(temporary) / CONVERTED)
            shutil.rmtree(target, ignore_errors=True)
            os.replace(Path(temporary) / CONVERTED, target)
    except ValueError:
        if not is_placed:
            checkpoint.unlink()  # a damaged download must not be found again
        raise
    except SafetensorError as error:
        raise OSError(f"{checkpoint} cannot be converted to {target}: {error}") from error
    if not is_placed:
        checkpoint.unlink()


def download_release(release: Release, checkpoint: Path, options: DownloadOptions) -> None:
    """Show the licence of a release and download its file.

    Raises:
        OSError: If files must not be downloaded, or the file cannot be.
    """
    advice = f"Or download {release.file} on another machine, and place it at {checkpoint}"
    if options.local_files_only:
        raise OSError(f"{release.url} is not in the cache, and local_files_only is set. {advice}")
    if not constants.is_offline_mode():
        warnings.warn(
            f"{release.file} is published under the {release.licence}: {release.licence_url}. This also holds for "
            f"everything converted from it. Downloading {release.url} to {checkpoint.parent}",
            stacklevel=2,
        )
    download_file(release.url, checkpoint, advice)
