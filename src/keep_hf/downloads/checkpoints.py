"""Where the checkpoint of `from_single_file` is: a file, an address, or a file in a repository on the Hub."""

import hashlib
import os
import re
import warnings
import zipfile
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from huggingface_hub import constants
from huggingface_hub.utils import WeakFileLock
from huggingface_hub.utils.sha import sha_fileobj

from .files import download_file
from .hub import download_hub_file
from .options import DownloadOptions
from .releases import RELEASED_FILES, download_release


SUFFIXES = (".ckpt", ".pt", ".pth", ".safetensors")


def is_checkpoint(name: str) -> bool:
    """Whether a name is that of a checkpoint file, at any of the places where `locate_checkpoint` finds one."""
    return Path(name).is_file() or is_url(name) or (name.endswith(SUFFIXES) and not Path(name).is_dir())


def is_url(name: str) -> bool:
    """Whether a name is an address on the web."""
    return name.startswith(("http://", "https://"))


def locate_checkpoint(name: str | os.PathLike, options: DownloadOptions) -> Path:
    """Return the path of a checkpoint file, which is downloaded into the cache if need be.

    Args:
        name (`str` or `os.PathLike`): Path of a file; its address, `https://...`; or a file on the Hub,
            `owner/repository/path/in/it.pth`.
        options ([`DownloadOptions`]): The cache, and how to download.

    Raises:
        ValueError: If the name is none of these.
        OSError: If the file cannot be downloaded.
    """
    text = os.fspath(name)
    if Path(text).is_file():
        return Path(text)
    hub_url = rf"{re.escape(constants.ENDPOINT)}/([^/]+/[^/]+)/(?:blob|resolve)/([^/]+)/([^?]+)(?:\?.*)?"
    if match := re.fullmatch(hub_url, text):
        repo_id, revision, filename = (unquote(part) for part in match.groups())
        return download_hub_file(repo_id, filename, options.at(options.revision or revision))
    if is_url(text):
        return _download(text, options)
    if match := re.fullmatch(r"(\w[\w.-]*/\w[\w.-]*)/(.+)", text):
        return download_hub_file(match[1], match[2], options)
    raise ValueError(f"There is no checkpoint file {text}.")


def _download(url: str, options: DownloadOptions) -> Path:
    """The file at an address, from the cache if it is there."""
    file_name = unquote(Path(urlsplit(url).path).name)
    if not file_name:
        raise ValueError(f"{url} is not the address of a file.")
    # Files of one name at different addresses are different files.
    key = hashlib.sha256(url.encode()).hexdigest()[:16]
    path = options.assets_folder("files", key) / file_name
    if path.is_file() and not options.force_download:
        return path  # also from a cache that cannot be written
    # Processes that start together would append to the same unfinished file.
    with WeakFileLock(path.with_name(".lock")):
        if not path.is_file() or options.force_download:
            _fetch(url, path, options)
    return path


def _fetch(url: str, path: Path, options: DownloadOptions) -> None:
    release = RELEASED_FILES.get(path.name)
    if release and release.url == url:
        download_release(release, path, options)
        return
    advice = "Or download the file on another machine, and pass its path"
    if options.local_files_only:
        raise OSError(f"{url} is not in the cache, and local_files_only is set. {advice}")
    download_file(url, path, advice)


@dataclass(frozen=True)
class Origin:
    """Where the weights of a checkpoint file come from.

    Attributes:
        sha256 (`str`): SHA-256 of the file.
        release (`str`, *optional*): Name of the release with a file of this name.
    """

    sha256: str
    release: str | None


def check_checkpoint(path: Path) -> Origin:
    """Check that the content of a file is intact, and whether it is that of the release with this name.

    The digits of a release are those that its authors put into the name of the file, so a mismatch causes a warning
    only: what decides is whether the weights fit.

    Raises:
        ValueError: If the file is damaged.
    """
    with path.open("rb") as file:
        sha256 = sha_fileobj(file).hex()
    release = RELEASED_FILES.get(path.name)
    if release and not sha256.startswith(release.sha256):
        warnings.warn(
            f"The SHA-256 of {path} is {sha256}; that of the published file starts with {release.sha256}. It may be "
            "another version, or was changed.",
            stacklevel=2,
        )
    if zipfile.is_zipfile(path):
        # torch.load does not compare the checksums that torch.save wrote.
        try:
            with zipfile.ZipFile(path) as archive:
                damaged = archive.testzip()
        except (zipfile.BadZipFile, OSError) as error:
            raise ValueError(f"{path} is damaged: {error}") from error
        if damaged:
            raise ValueError(f"{path} is damaged: the checksum of {damaged} in it is wrong. Download it again.")
    return Origin(sha256, release.name if release else None)
