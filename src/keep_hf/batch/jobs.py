"""The videos that one `keep-hf restore` restores, and where the results go."""

from collections import Counter
from pathlib import Path

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
    if not source.is_dir():
        return [(source, target)]
    found = find_videos(source)
    if not found and contains_images(source):
        return [(source, target)]
    if not found:
        raise ValueError(f"{source} contains no videos ({', '.join(sorted(VIDEO_SUFFIXES))}) and no images.")
    if target.exists() and not target.is_dir():
        raise ValueError(f"{source} is a folder, so {target} must be a folder, too.")
    if target.resolve().is_relative_to(source.resolve()):
        raise ValueError(f"{target} lies in {source}, where results would become sources; name another folder.")
    jobs = [(path, target / path.relative_to(source)) for path in found]
    # VideoWriter writes few formats; videos in any other one become MP4.
    renamed = [(path, _with_written_format(to, to.with_suffix(".mp4"))) for path, to in jobs]
    counts = Counter(to for _, to in renamed)
    # clip.avi and clip.ts become clip.avi.mp4 and clip.ts.mp4.
    jobs = [
        (path, new if counts[new] == 1 else _with_written_format(to, to.with_name(f"{to.name}.mp4")))
        for (path, to), (_, new) in zip(jobs, renamed, strict=True)
    ]
    clashes = sorted(str(to) for to, count in Counter(to for _, to in jobs).items() if count > 1)
    if clashes:
        raise ValueError(f"Several videos would be written to {clashes}; rename one of each.")
    return jobs


def _with_written_format(target: Path, renamed: Path) -> Path:
    return target if target.suffix.lower() in OUTPUT_FORMATS else renamed
