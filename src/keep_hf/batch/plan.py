"""What one `keep-hf restore` does: its videos, the longest first, and the folder that the processes share."""

import hashlib
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from ..video.media_files import VIDEO_SUFFIXES, check_exists, check_is_local
from .jobs import list_jobs, list_videos, name_results
from .remote_file import RemoteFile, is_remote
from .shared_folder import Job
from .work_order import longest_first


@dataclass(frozen=True)
class Plan:
    """The videos of a run.

    Args:
        jobs (`list[Job]`): The videos, the longest first.
        shared (`Path`, *optional*): The folder of the manifest and the claims; `None` if the input is one video.
    """

    jobs: list[Job]
    shared: Path | None


def make_plan(source: Path, target: Path, work_folder: Path) -> Plan:
    """List the videos of an input.

    Args:
        source (`Path`): A video, a folder of videos or of images, or a URL of a video or a folder of videos.
        target (`Path`): A file or a folder, local or remote.
        work_folder (`Path`): Where local copies of remote files are.

    Raises:
        ValueError: See `list_jobs`; also if a remote output is the input or lies in it.
        OSError: If a remote source cannot be listed.
    """
    if is_remote(source) or is_remote(target):
        return _make_remote_plan(source, target, work_folder)
    pairs = dict(list_jobs(source, target))
    if source in pairs:
        return Plan([Job(source, pairs[source], target.name)], None)
    order = longest_first(pairs)
    return Plan([Job(path, pairs[path], pairs[path].relative_to(target).as_posix()) for path in order], target)


def _make_remote_plan(source: Path, target: Path, work_folder: Path) -> Plan:
    results: Path | RemoteFile = target
    if is_remote(target):
        results = RemoteFile.parse(target)
    else:
        check_is_local(target, "write a file first, and upload it")
    videos: Path | RemoteFile = source
    if is_remote(source):
        videos = RemoteFile.parse(source)
        if isinstance(results, RemoteFile) and results.is_in(videos):
            raise ValueError(
                f"{results} is the input or lies in it, so videos would be replaced or restored again: choose another "
                "output."
            )
        names = [] if videos.is_file() else _find_videos(videos)
    else:
        check_exists(source)
        if source.is_dir() and not list_videos(source):
            raise ValueError(f"{source} is a folder of images; write the result to a local file, and upload it.")
        found = longest_first(list_videos(source)) if source.is_dir() else []
        names = [PurePosixPath(path.relative_to(source).as_posix()) for path in found]
    if not names:
        return Plan([Job(videos, results, results.name)], None)
    named = name_results(names)
    jobs = [Job(videos / name, results / named[name], str(named[name])) for name in names]
    # Remote results are shared by the processes of this machine.
    digest = hashlib.sha256(str(results).encode()).hexdigest()[:32]
    return Plan(jobs, target if isinstance(results, Path) else work_folder / "runs" / digest)


def _find_videos(folder: RemoteFile) -> list[PurePosixPath]:
    """The videos of a remote folder, the largest file first: to read their headers would take requests for each."""
    sizes = folder.find()
    found = [
        name
        for name in sizes
        if name.suffix.lower() in VIDEO_SUFFIXES
        and not any(part.startswith(".") or part.endswith(".part") for part in name.parts)
    ]
    if not found:
        is_dataset = folder.protocol == "hf" and folder.path.startswith("datasets/")
        hint = " If it is a dataset with a column of videos, name the column with --column." if is_dataset else ""
        raise ValueError(f"{folder} does not exist or contains no videos ({', '.join(sorted(VIDEO_SUFFIXES))}).{hint}")
    return sorted(found, key=lambda name: (-sizes[name], str(name)))
