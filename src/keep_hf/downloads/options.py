"""Where and how files are downloaded."""

import os
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from huggingface_hub import cached_assets_path


@dataclass(frozen=True)
class DownloadOptions:
    """The options of a download, with the names that they have in huggingface_hub.

    Args:
        cache_dir (`str` or `os.PathLike`, *optional*): The cache; in `HF_HOME` by default.
        local_files_only (`bool`, *optional*, defaults to `False`): Whether to raise an error instead of downloading.
        force_download (`bool`, *optional*, defaults to `False`): Whether to download files that are in the cache.
        revision (`str`, *optional*): Branch, tag or commit of a repository on the Hub.
        token (`str` or `bool`, *optional*): Token for the Hub; it is sent nowhere else.
    """

    cache_dir: str | os.PathLike | None = None
    local_files_only: bool = False
    force_download: bool = False
    revision: str | None = None
    token: str | bool | None = None

    @classmethod
    def from_arguments(cls, arguments: dict[str, Any]) -> "DownloadOptions":
        """The options among the arguments of a function."""
        return cls(**{field.name: arguments[field.name] for field in fields(cls) if field.name in arguments})

    def at(self, revision: str | None) -> "DownloadOptions":
        """The same options with another revision."""
        return replace(self, revision=revision)

    def assets_folder(self, namespace: str, name: str) -> Path:
        """The folder of the cache for files that are not from the Hub; it is created."""
        cache = None if self.cache_dir is None else Path(self.cache_dir)
        return cached_assets_path("keep_hf", namespace, name, assets_dir=cache)
