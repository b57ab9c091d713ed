"""The videos that one `keep-hf restore` restores, and where the results go."""

from collections import Counter
from pathlib import Path, PurePosixPath

from ..video.media_files import VIDEO_SUFFIXES, check_exists, check_is_local, contains_images, find_videos
from ..video.segments.output_format import OUTPUT_FORMATS


def list_jobs(source: Path, target: Path) -> list[tuple[Path, Path]]:
    """List pairs of a source and its target; a folder of videos keeps its layout, a folder of images is one video.

    Args:
        source (`Path`): Video file, folder of videos at any depth, or folder of images.
        target (`Path`): File, or folder if the source is a folder of videos.

    Raises:
        ValueError: If there is nothing to restore, the target is a file or lies in the source, or several videos
            would be written to the same file.
    """
    check_exists(source)
    check_is_local(target, "write a file first, and upload it")
    if str(target) == "-":
        raise ValueError("- stands for standard output, which is not supported; pass the name of a file.")
    found = list_videos(source) if source.is_dir() else []
    if not found:
        return [(source, target)]
    if target.exists() and not target.is_dir():
        raise ValueError(f"{source} is a folder, so {target} must be a folder, too.")
    if target.resolve().is_relative_to(source.resolve()):
        raise ValueError(f"{target} lies in {source}, where results would become sources; name another folder.")
    names = {path: PurePosixPath(path.relative_to(source).as_posix()) for path in found}
    results = name_results(list(names.values()))
    return [(path, target / results[names[path]]) for path in found]


def list_videos(folder: Path) -> list[Path]:
    """The videos in a folder at any depth; none if it is a folder of images.

    Raises:
        ValueError: If there are no images either.
    """
    found = find_videos(folder)
    if not found and not contains_images(folder):
        raise ValueError(f"{folder} contains no videos ({', '.join(sorted(VIDEO_SUFFIXES))}) and no images.")
    return found


def name_results(names: list[PurePosixPath]) -> dict[PurePosixPath, PurePosixPath]:
    """The names of the results of the videos in a folder, as far as possible their own.

    `VideoWriter` writes few formats; videos in any other one become MP4.

    Raises:
        ValueError: If several videos would be written to the same file.
    """
    renamed = {name: _with_written_format(name, name.with_suffix(".mp4")) for name in names}
    counts = Counter(renamed.values())
    # clip.avi and clip.ts become clip.avi.mp4 and clip.ts.mp4.
    results = {
        name: new if counts[new] == 1 else _with_written_format(name, name.with_name(f"{name.name}.mp4"))
        for name, new in renamed.items()
    }
    clashes = sorted(str(to) for to, count in Counter(results.values()).items() if count > 1)
    if clashes:
        raise ValueError(f"Several videos would be written to {clashes}; rename one of each.")
    return results


def _with_written_format(name: PurePosixPath, renamed: PurePosixPath) -> PurePosixPath:
    return name if name.suffix.lower() in OUTPUT_FORMATS else renamed
