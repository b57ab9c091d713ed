"""Limits that keep one client from taking the whole machine."""

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING


if TYPE_CHECKING:
    import gradio as gr


@dataclass(frozen=True)
class ClientLimits:
    """Limits for each client and for all together.

    Attributes:
        places (`int`): Jobs of one client that wait or run.
        total_places (`int`): Jobs of all clients that wait or run.
        megabytes (`int`): Uploads of one client within `seconds`.
        total_megabytes (`int`): All files of all clients: uploads, parts and results.
        seconds (`float`): For how long videos and results are kept, in seconds.

    Raises:
        ValueError: If one of them is not positive.
    """

    places: int = 4
    total_places: int = 16
    megabytes: int = 1000
    total_megabytes: int = 10_000
    seconds: float = 3600.0

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not value > 0:
                raise ValueError(f"The limit of {name} must be positive, got {value:g}.")


class QueueFullError(ValueError):
    """There is no place for one more job now."""


class Clients:
    """What each client uses.

    Args:
        limits ([`ClientLimits`]): The limits.
        used_bytes (`Callable[[], int]`): Returns the size of all files.
    """

    def __init__(self, limits: ClientLimits, used_bytes: Callable[[], int]) -> None:
        self.limits, self._used_bytes = limits, used_bytes
        self._lock = threading.Lock()
        self._uploads: deque[tuple[float, str, int]] = deque()  # time, client and size in bytes; the oldest first

    def take_upload(self, client: str, num_bytes: int) -> None:
        """Count an upload.

        Args:
            client (`str`): Who uploads.
            num_bytes (`int`): Size of all its files.

        Raises:
            ValueError: If a limit would be exceeded; then the upload does not count.
        """
        limits, now = self.limits, time.monotonic()
        with self._lock:
            while self._uploads and now - self._uploads[0][0] > limits.seconds:
                self._uploads.popleft()
            mine = sum(size for _, other, size in self._uploads if other == client)
            if mine + num_bytes > limits.megabytes * 1e6:
                raise ValueError(
                    f"You have uploaded {mine / 1e6:.0f} MB within {limits.seconds / 60:.0f} minutes, and the limit "
                    f"is {limits.megabytes} MB. Try again later, or with a smaller file."
                )
            self._check_disk(num_bytes)
            self._uploads.append((now, client, num_bytes))

    def check_places(self, client: str, unfinished: Sequence[str]) -> None:
        """Check that a client may have one more job.

        Args:
            client (`str`): Who requests it.
            unfinished (`Sequence[str]`): The clients of all jobs that wait or run.

        Raises:
            QueueFullError: If a limit is reached.
            ValueError: If the disk is full.
        """
        if list(unfinished).count(client) >= self.limits.places:
            raise QueueFullError(
                f"You already have {self.limits.places} requests in the queue: wait for one of them, or cancel it."
            )
        if len(unfinished) >= self.limits.total_places:
            raise QueueFullError(
                f"{len(unfinished)} requests are waiting, which is the limit. Try again in some minutes."
            )
        self._check_disk(0)

    def _check_disk(self, num_bytes: int) -> None:
        """Check that there is space for a number of bytes."""
        if self._used_bytes() + num_bytes > self.limits.total_megabytes * 1e6:
            raise ValueError("The disk of this machine is full of videos of other users. Try again later.")


def client_of(request: "gr.Request") -> str:
    """Who a request is from, for the limits."""
    return request.client.host if request.client else ""
