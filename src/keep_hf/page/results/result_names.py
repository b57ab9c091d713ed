"""Names of results: those of the uploads, made safe for every file system, browser and archive."""

import re
import unicodedata
from collections.abc import Sequence
from pathlib import PurePosixPath, PureWindowsPath


MAX_BYTES = 120  # of a stem; file systems allow 255 for a whole name, and suffixes follow
# Windows reserves these names, whatever suffix follows.
RESERVED = {"con", "prn", "aux", "nul", *(f"{name}{number}" for name in ("com", "lpt") for number in range(1, 10))}
# Reserved by a file system, or with a meaning in a shell, a URL or a header.
UNSAFE = re.compile(r"[\\/:*?\"'<>|`$%#&;{}\[\]~^!\s]+")


def safe_stem(name: str) -> str:
    """The stem of a file name, without what a file system or a program could take for something else.

    Args:
        name (`str`): Any text, as a client has sent it: a path, `..`, quotes, control characters, or nothing.

    Returns:
        `str`: 1 to 120 bytes of UTF-8 that do not start with a dot or a dash. Letters of all scripts stay. `"video"`
            if nothing is left.
    """
    # NFC: macOS sends letters and their accents as separate characters.
    name = unicodedata.normalize("NFC", PureWindowsPath(PurePosixPath(name).name).name)
    # Categories C: control and formatting characters, such as those that reverse the direction of text; surrogates.
    name = "".join(" " if unicodedata.category(letter)[0] in "CZ" else letter for letter in name)
    stem = PurePosixPath(name.strip(" .")).stem
    stem = UNSAFE.sub("_", stem).strip("_.- ")
    stem = stem.encode()[:MAX_BYTES].decode(errors="ignore").rstrip("_.- ")
    return f"{stem}_" if stem.lower() in RESERVED else stem or "video"


def result_name(upload: str, kind: str, suffix: str = ".mp4") -> str:
    """The name of a result, such as `holiday_restored.mp4`.

    Args:
        upload (`str`): Name of the upload.
        kind (`str`): `"restored"`, `"preview"`, `"side_by_side"` or `"report"`.
        suffix (`str`, *optional*, defaults to `".mp4"`): Suffix of the result.
    """
    return f"{safe_stem(upload)}_{kind}{suffix}"


def distinct_names(names: Sequence[str]) -> list[str]:
    """Number names that occur several times, as in one folder: `a.mp4`, `a_2.mp4`.

    Names that differ only in case are the same, as on Windows and macOS.
    """
    taken: set[str] = set()
    distinct = []
    for name in names:
        path, number, free = PurePosixPath(name), 1, name
        while free.lower() in taken:
            number += 1
            free = f"{path.stem}_{number}{path.suffix}"
        taken.add(free.lower())
        distinct.append(free)
    return distinct
