"""Report files in JSON, as `--report` writes them."""

import json
import os
from pathlib import Path
from typing import Any


def check_report_path(path: Path) -> None:
    """Reject a report that could not be written, before any work is done.

    Raises:
        ValueError: If the path is a folder, or its folder does not exist.
    """
    if path.is_dir() or not path.parent.is_dir():
        raise ValueError(f"The report {path} must be a file in an existing folder.")


def write_report(path: Path, content: Any) -> None:
    """Write a JSON file in one step: an interrupted run leaves the old file or the new one."""
    part = path.with_name(path.name + ".part")
    part.write_text(json.dumps(content, indent=2) + "\n")
    os.replace(part, path)
