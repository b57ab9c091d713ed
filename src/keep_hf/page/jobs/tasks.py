"""The work of jobs: it takes from the cache what an earlier job has computed, and leaves there what it computes."""

from collections.abc import Generator
from dataclasses import replace
from pathlib import Path

from ..backend import COMPARING, CUTTING, FINDING, RESTORING, Backend
from ..clips import cut_clip, probe
from ..progress import Phase, Progress
from .face_search import FaceSearch, FoundPeople, select_tracks
from .job import Job, PartKey, RestoreRequest, Result
from .video_cache import CutPart, VideoCache


class Tasks:
    """Does jobs.

    Args:
        backend ([`Backend`]): Finds and restores faces in parts.
        search ([`FaceSearch`]): Finds people in samples of frames.
        cache ([`VideoCache`]): The videos.
    """

    def __init__(self, backend: Backend, search: FaceSearch, cache: VideoCache) -> None:
        self.backend, self.search, self.cache = backend, search, cache

    def run(self, job: Job) -> Generator[Progress | Result, None, None]:
        """Do a job: yield progress, and the result at the end.

        Raises:
            ValueError: If the video cannot be read, or the request is not allowed.
            OSError: If the disk is full.
        """
        request = job.request
        if isinstance(request, RestoreRequest):
            with self.cache.use(request.video) as path:
                yield from self._restore(job, request, path)
        else:
            with self.cache.use(request.part.video) as path:
                job.plan((FINDING,))
                yield (yield from self._find_people(request.part, path))

    def _find_people(self, key: PartKey, path: Path) -> Generator[Progress, None, FoundPeople]:
        part = self.cache.part(key)
        while not part.searching.acquire(timeout=0.1):  # another job searches; this one can be cancelled meanwhile
            yield Progress(FINDING)
        try:
            if part.people is None:
                part.people = yield from self.search.find(path, key.start, key.end)
            return part.people
        finally:
            part.searching.release()

    def _restore(self, job: Job, request: RestoreRequest, path: Path) -> Generator[Progress | Result, None, None]:
        key, restoration = request.part, request.restoration
        restoration.options()  # a value that is not allowed raises before any work
        part = self.cache.part(key)
        phases = [CUTTING] * (part.cut is None) + [FINDING] * bool(restoration.people and part.tracks is None)
        job.plan((*phases, RESTORING, COMPARING))
        self.backend.limits.check(probe(path), key.start, key.end, restoration.upscale)
        cut = yield from self._cut(key, path)
        people: tuple[int, ...] = ()
        if restoration.people:
            found = yield from self._find_people(request.searched_part, path)
            people = select_tracks(found, restoration.people, (yield from self._track(key, cut)))
        # The result stays when the cache forgets the video.
        job.folder.mkdir(parents=True)
        before = job.folder / "before.mp4"
        before.hardlink_to(cut.path)
        restoration = replace(restoration, end=key.end, people=people)
        yield from self.backend.restore_part(before, cut.num_frames, restoration, job.folder)

    def _cut(self, key: PartKey, path: Path) -> Generator[Progress, None, CutPart]:
        part = self.cache.part(key)
        if part.cut is None:
            phase, target = Phase(CUTTING), self.cache.new_path(key)
            expected, num_frames = probe(path).frames_between(key.start, key.end), 0
            yield phase.at(0)
            try:
                for num_frames in cut_clip(path, target, key.start, key.end):
                    yield phase.at(num_frames / expected)
            except BaseException:  # an error, or the generator is closed because the job was cancelled
                target.unlink(missing_ok=True)
                raise
            part.cut = CutPart(target, num_frames)
        return part.cut

    def _track(self, key: PartKey, cut: CutPart) -> Generator[Progress, None, list]:
        part = self.cache.part(key)
        if part.tracks is None:
            part.tracks = yield from self.backend.track_part(cut.path, cut.num_frames)
        return part.tracks
