"""Videos by the hash of their content, with what was computed from them: parts and faces.

A part is cut once, and its faces are found once, for the search, the preview and the restoration.
"""

import hashlib
import shutil
import threading
import time
from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from ...faces.tracking.tracks import FaceTrack
from ..clips import ClipInfo, probe
from .face_search import FoundPeople
from .job import PartKey


DELETED = "The video was deleted, because it was not used for a while: upload it again."


@dataclass(frozen=True)
class CutPart:
    """A part that was cut out.

    Attributes:
        path (`Path`): The file.
        num_frames (`int`): Number of its frames.
    """

    path: Path
    num_frames: int


@dataclass
class CachedPart:
    """What is known of a part; the job that needs more computes it, and leaves it here.

    Attributes:
        cut ([`CutPart`], *optional*): The part as a file.
        people ([`FoundPeople`], *optional*): The people in samples of its frames.
        tracks (`list[FaceTrack]`, *optional*): The people in all its frames.
        copy (`Path`, *optional*): A copy of the part that browsers play, see [`BrowserCopies`].
        searching (`threading.Lock`): Held while `people` is computed, which a search and a restoration may both need.
    """

    cut: CutPart | None = None
    people: FoundPeople | None = None
    tracks: list[FaceTrack] | None = None
    copy: Path | None = None
    searching: threading.Lock = field(default_factory=threading.Lock)


@dataclass
class CachedVideo:
    """A video, and its parts."""

    path: Path
    clip: ClipInfo
    last_use: float = field(default_factory=time.monotonic)
    parts: dict[PartKey, CachedPart] = field(default_factory=dict)


def checksum(file: Path) -> str:
    """The SHA-256 of the content of a file."""
    digest = hashlib.sha256()
    with file.open("rb") as opened:
        while chunk := opened.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


class VideoCache:
    """Videos and their parts; safe to use from several threads.

    Args:
        folder (`Path`): An existing, empty folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._lock = threading.Lock()
        self._videos: dict[str, CachedVideo] = {}
        self._users: Counter[str] = Counter()  # jobs that use a video at this moment

    def add(self, file: Path, video: str) -> None:
        """Copy a video into the cache, unless it is there.

        Args:
            file (`Path`): Any file.
            video (`str`): Its [`checksum`], by which it is found.

        Raises:
            ValueError: If the file is not a video or is damaged; the message has its name.
        """
        with self._lock:
            is_known = video in self._videos
        clip = None if is_known else probe(file)  # decodes recordings of browsers: other users need not wait for it
        with self._lock:
            if video not in self._videos:
                self._videos[video] = CachedVideo(self._copy(file, self.folder / video), clip or probe(file))
            self._videos[video].last_use = time.monotonic()

    @staticmethod
    def _copy(file: Path, folder: Path) -> Path:
        folder.mkdir()
        try:
            # Not the name of the file: another user may have the same video.
            return Path(shutil.copyfile(file, folder / f"video{file.suffix}"))
        except OSError:
            shutil.rmtree(folder)
            raise

    @contextmanager
    def use(self, video: str) -> Iterator[Path]:
        """The path of a video, which is not deleted within the `with` block.

        Raises:
            ValueError: If it was deleted.
        """
        with self._lock:
            if video not in self._videos:
                raise ValueError(DELETED)
            path = self._videos[video].path
            self._users[video] += 1
        try:
            yield path
        finally:
            with self._lock:
                self._users[video] -= 1
                self._videos[video].last_use = time.monotonic()

    def clip(self, video: str) -> ClipInfo:
        """Length and size of a video in use."""
        with self._lock:
            return self._videos[video].clip

    def part(self, key: PartKey) -> CachedPart:
        """What is known of a part of a video in use."""
        with self._lock:
            return self._videos[key.video].parts.setdefault(key, CachedPart())

    def new_path(self, key: PartKey) -> Path:
        """A path for a cut of a part; two parts, and two cuts of one part, have different paths."""
        return self.folder / key.video / f"part {time.monotonic_ns()}.mp4"

    def used_since(self, moment: float) -> set[str]:
        """The videos that were used at or after a moment of `time.monotonic()`."""
        with self._lock:
            return {video for video, cached in self._videos.items() if cached.last_use >= moment}

    def delete_unused(self, seconds: float, needed: Collection[str] = ()) -> None:
        """Delete the videos that no job uses, and that were not used for a time.

        Args:
            seconds (`float`): The time in seconds.
            needed (`Collection[str]`, *optional*): Videos that are kept, because jobs for them wait.
        """
        now = time.monotonic()
        with self._lock:
            for video, cached in list(self._videos.items()):
                if video not in needed and not self._users[video] and now - cached.last_use >= seconds:
                    del self._videos[video]
                    shutil.rmtree(self.folder / video, ignore_errors=True)
