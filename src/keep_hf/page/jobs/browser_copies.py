"""Copies of uploads that browsers do not play, to be watched before the restoration."""

import threading
from pathlib import Path

from ..clips import browsers_play, cut_clip
from .job import PartKey
from .video_cache import VideoCache


class BrowserCopies:
    """Makes one copy of each part, one at a time; safe to use from several threads.

    Args:
        cache ([`VideoCache`]): The videos; the copies are deleted together with them.
        seconds (`float`): Length of the longest copy.
    """

    def __init__(self, cache: VideoCache, seconds: float) -> None:
        self.cache, self.seconds = cache, seconds
        self._lock = threading.Lock()

    def is_needed(self, video: str) -> bool:
        """Whether there are browsers that do not play a video.

        Raises:
            ValueError: If the video was deleted.
        """
        with self.cache.use(video) as path:
            return not browsers_play(path)

    def make(self, key: PartKey) -> Path:
        """The copy of a part.

        Raises:
            ValueError: If the video was deleted, or has no frame in the part.
            OSError: If the disk is full.
        """
        with self.cache.use(key.video) as path, self._lock:
            part = self.cache.part(key)
            if part.copy is None:
                target, end = self.cache.new_path(key), min(key.end, key.start + self.seconds)
                try:
                    for _ in cut_clip(path, target, key.start, end, is_copy=True):
                        pass
                except BaseException:
                    target.unlink(missing_ok=True)
                    raise
                part.copy = target
            return part.copy
