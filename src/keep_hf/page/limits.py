"""What the page takes on, and what it refuses before any work is done."""

from dataclasses import dataclass

from .clips import Clip


@dataclass(frozen=True)
class Limits:
    """What the page takes on.

    Attributes:
        seconds (`float`): Longest part of a video that is restored at once.
        megapixels (`float`): Largest frame of the result.
        megabytes (`int`): Largest file that can be uploaded.

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
            f"Up to {self.megabytes} MB a file, {self.seconds:g} seconds at a time, and {self.megapixels:g} megapixels"
            " a frame when done."
        )

    def check(self, clip: Clip, start: float, end: float, upscale: int = 1) -> None:
        """Refuse what is too much, or not there.

        Args:
            clip ([`Clip`]): The video.
            start, end (`float`): The part, in seconds.
            upscale (`int`, *optional*, defaults to 1): By how much the frames are to grow.

        Raises:
            ValueError: With what to do instead.
        """
        if not 0 <= start < end:
            raise ValueError(f"The part must end after it starts; got {start:g} to {end:g} seconds.")
        if start >= clip.seconds:
            raise ValueError(
                f"The video is {clip.seconds:.1f} seconds long; the part starts after that, at {start:g}."
            )
        seconds = min(end, clip.seconds) - start
        if seconds > self.seconds + 0.05:  # what the page shows as the limit is not above it
            raise ValueError(
                f"{seconds:.1f} seconds are too long: choose a part of at most {self.seconds:g} seconds. "
                "(keep-hf restore, on a machine of your own, takes any length.)"
            )
        megapixels = clip.width * clip.height * upscale**2 / 1e6
        if megapixels > self.megapixels:
            advice = "Choose a smaller enlargement." if upscale > 1 else "Make the video smaller first."
            raise ValueError(
                f"Frames of {clip.width * upscale} x {clip.height * upscale} pixels are too large: the limit is "
                f"{self.megapixels:g} megapixels. {advice}"
            )
