"""Files in object stores, through fsspec: `s3://`, `hf://` and others.

FFmpeg could read through a file object, but a video is opened several times: for its frames, for its other streams,
and to see whether it is complete. Every restoration therefore works on a local copy. The result is written locally,
too, so that an interrupted run can be resumed. A file in a store appears when its upload is complete.
"""

import os
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath

import fsspec
from fsspec import AbstractFileSystem
from huggingface_hub.errors import HfHubHTTPError

from ..video.media_files import URL
from ..video.part_folder import sync


STORES = frozenset({"abfs", "az", "gcs", "gs", "hf", "memory", "s3"})
# The Hub refuses a commit while it takes another one (409), and if the branch has moved on meanwhile (412).
CONFLICTS = (409, 412)
# Seconds before a refused commit is tried again.
PAUSES = (0, 1, 2, 4, 8, 15, 30, 30)


def is_remote(path: Path) -> bool:
    """Whether a path is the URL of a file or folder in an object store."""
    url = URL.fullmatch(path.as_posix())
    return url is not None and url["scheme"].lower() in STORES


@dataclass(frozen=True)
class RemoteFile:
    """A file or folder in an object store.

    Args:
        protocol (`str`): For example "s3".
        path (`str`): The path without the protocol, for example "bucket/folder/a.mp4".
    """

    protocol: str
    path: str

    @classmethod
    def parse(cls, path: Path) -> "RemoteFile":
        """The file of a URL; `Path` has turned its "//" into "/"."""
        url = URL.fullmatch(path.as_posix())
        assert url is not None
        return cls(url["scheme"].lower(), url["rest"].rstrip("/"))

    def __str__(self) -> str:
        return f"{self.protocol}://{self.path}"

    def __truediv__(self, name: PurePosixPath) -> "RemoteFile":
        return RemoteFile(self.protocol, f"{self.path}/{name}")

    @property
    def name(self) -> str:
        """The last part of the path."""
        return PurePosixPath(self.path).name

    def is_in(self, folder: "RemoteFile") -> bool:
        """Whether this is the other file or folder itself, or lies in it."""
        is_same_store = type(self.system) is type(folder.system)  # gs:// and gcs:// are one
        return is_same_store and PurePosixPath(self.path).is_relative_to(folder.path)

    @cached_property
    def system(self) -> AbstractFileSystem:
        """The store, with the credentials of the environment.

        Raises:
            ValueError: If a package is missing.
        """
        try:
            return fsspec.filesystem(self.protocol, use_listings_cache=False)
        except ImportError as error:
            raise ValueError(f"{self} cannot be opened. {error}.") from error

    @property
    def system_now(self) -> AbstractFileSystem:
        """The same without what it remembers: other processes change the files."""
        self.system.invalidate_cache()  # hf:// keeps lists of files even without `use_listings_cache`
        return self.system

    def exists(self) -> bool:
        """Whether there is a file of this name now."""
        with report_errors(self):
            return bool(self.system_now.exists(self.path))

    def is_file(self) -> bool:
        """Whether this is a file, not a folder."""
        with report_errors(self):
            return bool(self.system_now.isfile(self.path))

    def size(self) -> int:
        """Size in bytes."""
        with report_errors(self):
            return int(self.system_now.size(self.path))

    def version(self) -> str:
        """Another text for every version of the file."""
        with report_errors(self):
            return str(self.system_now.ukey(self.path))

    def find(self) -> dict[PurePosixPath, int]:
        """The sizes in bytes of all files in this folder, at any depth, by their paths in it."""
        with report_errors(self):
            root = self.system._strip_protocol(str(self))
            found = self.system_now.find(root, detail=True)
            return {PurePosixPath(path).relative_to(root): int(info["size"]) for path, info in found.items()}

    def download(self, target: Path) -> None:
        """Copy the file to a local one, which appears complete."""
        part = target.with_name(f"{uuid.uuid4().hex}.download")
        try:
            with report_errors(self):
                self.system_now.get_file(self.path, str(part))
            sync(part)  # after a power failure, a file with a part of its content would count as complete
            os.replace(part, target)
        finally:
            part.unlink(missing_ok=True)

    def upload(self, source: Path) -> None:
        """Replace the file by a copy of a local one."""
        with report_errors(self):
            commit_despite_others(lambda: self.system.put_file(str(source), self.path))

    def read(self) -> bytes | None:
        """The content of a small file; `None` if there is none."""
        with report_errors(self):
            try:
                return bytes(self.system_now.cat_file(self.path))
            except FileNotFoundError:
                return None

    def write(self, content: bytes) -> None:
        """Replace a small file."""
        with report_errors(self):
            self.system.pipe_file(self.path, content)

    def create(self, content: bytes) -> bool:
        """Write a small file if there is none, and return whether it was written: of several processes, by one."""
        with report_errors(self):
            try:
                self.system_now.pipe_file(self.path, content, mode="create")
            except FileExistsError:
                return False
        return True

    def remove(self) -> None:
        """Delete the file."""
        with report_errors(self):
            self.system.rm_file(self.path)


def commit_despite_others(commit: Callable[[], None]) -> None:
    """Call a function that commits to the Hub, again if commits of other processes have prevented it.

    Args:
        commit (`Callable`): Commits; to another store it is called once.

    Raises:
        HfHubHTTPError: If it is prevented again and again.
    """
    for pause in PAUSES:
        try:
            return commit()
        except HfHubHTTPError as error:
            if error.response.status_code not in CONFLICTS:
                raise
        time.sleep(pause)
    return commit()


@contextmanager
def report_errors(file: RemoteFile) -> Iterator[None]:
    """Raise all errors of a store as an `OSError` of one line that names the file and the cause."""
    try:
        yield
    except ValueError:
        raise
    except FileNotFoundError as error:
        raise OSError(f"{file} does not exist, or its bucket or folder does not: {error}.") from error
    except PermissionError as error:
        raise OSError(f"{file}: access was denied: {error}. Check the credentials.") from error
    # Every store has exceptions of its own, without a common base.
    except Exception as error:
        raise OSError(f"{file} cannot be reached: {type(error).__name__}: {error}.") from error
