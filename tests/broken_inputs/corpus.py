"""All broken inputs."""

from . import checkpoints, headers, image_folders, journals, outputs, signals, videos
from .case import Case


MODULES = (videos, headers, image_folders, checkpoints, journals, outputs, signals)


def all_cases() -> list[Case]:
    """Every case, in the order of the table."""
    return [case for module in MODULES for case in module.cases()]
