"""The example clips of the page; `examples/page_examples/make.py` of the repository makes them."""

from dataclasses import dataclass
from pathlib import Path


FOLDER = Path(__file__).parent


@dataclass(frozen=True)
class Example:
    """An example clip.

    Attributes:
        title (`str`): What it is, in two or three words.
        path (`Path`): The file.
        description (`str`): One sentence: what is wrong with the clip.
        num_people (`int`): Number of people in it.
    """

    title: str
    path: Path
    description: str
    num_people: int = 1


EXAMPLES = (
    Example("Old footage", FOLDER / "old_footage.mp4", "Black and white, with blur, grain and scratches."),
    Example("Video call", FOLDER / "video_call.mp4", "A small, noisy video with the blocks of a slow connection."),
    Example("Two people", FOLDER / "two_people.mp4", "A phone video, out of focus: restore one of them or both.", 2),
    Example("AI-generated clip", FOLDER / "generated_clip.mp4", "Soft faces, as small video generators make them."),
)

SHOWN = EXAMPLES[1]
"""The example that the page shows before and after restoration when it is opened."""

RESULT = FOLDER / "video_call_restored.mp4"
"""`SHOWN`, restored with `keep-small`."""
