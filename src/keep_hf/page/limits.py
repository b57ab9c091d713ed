"""Limits of a request, checked before any work is done."""

from dataclasses import dataclass

from .clips import ClipInfo


@dataclass(frozen=True)
class Limits:
    """Limits of a request.

    Attributes:
        seconds (`float`): Longest part of a video that is restored at once, in seconds.
        megapixels (`float`): Largest frame of the result, in millions of pixels.
        megabytes (`int`): Largest file that can be uploaded, in MB.

    Raises:
        ValueError: If one of them is not positive.
    """

    seconds: float = 60.0
    megapixels: float = 8.3  # 3840 x 2160
    megabytes: int = 200

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not value > 0:
                raise ValueError(f"The limit of {name} must be positive, got {value:g}.")

    def __str__(self) -> str:
        return (
            f"Up to {self.megabytes} MB per file, {self.seconds:g} seconds at a time, and "
            f"{self.megapixels:g} megapixels per restored frame."
        )

    def check(self, clip: ClipInfo, start: float, end: float, upscale: int = 1) -> None:
        """Reject a part that does not exist or exceeds the limits.

        Args:
            clip ([`ClipInfo`]): The video.
            start, end (`float`): The part, in seconds.
            upscale (`int`, *optional*, defaults to 1): Factor by which the frames are enlarged.

        Raises:
            ValueError: The message says what to do instead.
        """
        if not 0 <= start < end:
            raise ValueError(f"The part must end after it starts; got {start:g} to {end:g} seconds.")
        if start >= clip.seconds:
            raise ValueError(
                f"The video is {clip.seconds:.1f} seconds long; the part starts after that, at {start:g}."
            )
        seconds = min(end, clip.seconds) - start
        if seconds > self.seconds + 0.05:  # the page rounds the length to 0.1 seconds
            raise ValueError(
                f"{seconds:.1f} seconds are too long: choose a part of at most {self.seconds:g} seconds. "
                "(keep-hf restore, on your own machine, has no limit.)"
            )
        megapixels = clip.width * clip.height * upscale**2 / 1e6
        if megapixels > self.megapixels:
            advice = "Choose a smaller enlargement." if upscale > 1 else "Make the video smaller first."
            raise ValueError(
                f"Frames of {clip.width * upscale} x {clip.height * upscale} pixels are too large: the limit is "
                f"{self.megapixels:g} megapixels. {advice}"
            )
