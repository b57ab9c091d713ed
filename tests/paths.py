"""Where the repository is, and the data that may not be part of it."""

from pathlib import Path


REPOSITORY = Path(__file__).resolve().parents[1]
SHARED = REPOSITORY.parent / "shared"
