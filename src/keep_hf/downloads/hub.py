"""Files on the Hub, with messages that say what to do where they cannot be downloaded."""

from pathlib import Path

from huggingface_hub import constants, hf_hub_download, snapshot_download
from huggingface_hub.errors import HTTPError

from .options import DownloadOptions


YUNET_REPOSITORY = "opencv/face_detection_yunet"
YUNET_FILE = "face_detection_yunet_2023mar.onnx"


def download_hub_file(repo_id: str, filename: str, options: DownloadOptions) -> Path:
    """Download a file of a repository on the Hub, or find it in the cache.

    Raises:
        OSError: If the file is not in the cache and cannot be downloaded.
    """
    try:
        return Path(hf_hub_download(repo_id, filename, **vars(options)))
    except (HTTPError, OSError) as error:
        raise OSError(
            f"{filename} of the Hub repository {repo_id} is not in the cache and cannot be downloaded: "
            f"{_reason(error)} Or download it from {constants.ENDPOINT}/{repo_id} on another machine, and pass the "
            "path of the file"
        ) from error


def download_network(
    repo_id: str, purpose: str, options: DownloadOptions, patterns: list[str], ignored: str | None
) -> Path:
    """Download a repository on the Hub with a network, or find it in the cache.

    Args:
        repo_id (`str`): The repository; a name that is neither a file nor a folder here.
        purpose (`str`): What the network is for, for the message.
        options ([`DownloadOptions`]): The cache, and how to download.
        patterns (`list[str]`): The files.
        ignored (`str`, *optional*): Pattern of files that are left out.

    Raises:
        OSError: If it is not in the cache and cannot be downloaded.
    """
    try:
        return Path(snapshot_download(repo_id, allow_patterns=patterns, ignore_patterns=ignored, **vars(options)))
    except (HTTPError, OSError) as error:
        raise OSError(
            f"There is no {purpose} network {repo_id}: it is no folder and no .onnx file here, and as a repository on "
            f"the Hub it is not in the cache and cannot be downloaded: {_reason(error)}"
        ) from error


def locate_yunet(repo_id: str, options: DownloadOptions) -> Path:
    """Return the folder with the ONNX files of a YuNet repository: one where the user placed a file, or a download.

    Raises:
        OSError: If there is no such file in the cache, and the repository cannot be downloaded.
    """
    placed = options.assets_folder("releases", "yunet")
    if repo_id == YUNET_REPOSITORY and any(placed.glob("*.onnx")):
        return placed
    try:
        return Path(snapshot_download(repo_id, allow_patterns="*.onnx", **vars(options)))
    except (HTTPError, OSError) as error:
        raise OSError(
            f"The face detector YuNet is not in the cache, and the Hub repository {repo_id} cannot be downloaded: "
            f"{_reason(error)} Or download {YUNET_FILE} from {constants.ENDPOINT}/{YUNET_REPOSITORY} on another "
            f"machine, and place it in {placed}"
        ) from error


def _reason(error: Exception) -> str:
    if constants.is_offline_mode():
        return "HF_HUB_OFFLINE is set."
    return f"{(str(error).splitlines() or [type(error).__name__])[0].rstrip('.')}."
