"""The work of jobs: it takes from the cache what an earlier job has computed, and leaves there what it computes."""

from collections.abc import Generator
from dataclasses import replace
from pathlib import Path

from ..backend import COMPARING, CUTTING, FINDING, RESTORING, Backend
from ..clips import ClipInfo, cut_clip
from ..progress import Phase, Progress
from ..requests import RestoredPart
from ..results.report_files import complete_report
from ..results.result_names import result_name
from .choices import use_tracks
from .face_search import FaceSearch, FoundPeople, first_frame
from .job import Job, PartKey, RestoreRequest, Result
from .total_progress import Speed, work_of
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
        self._speed = Speed()

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
                job.plan({FINDING: 0.0}, self._speed)
                yield (yield from self._find_people(request.part, path))

    def _find_people(self, key: PartKey, path: Path) -> Generator[Progress, None, FoundPeople]:
        part = self.cache.part(key)
        while not part.searching.acquire(timeout=0.1):  # another job searches; this one can be cancelled meanwhile
            yield Progress(FINDING)
        try:
            if part.people is None:
                part.people = yield from self.search.find(path, self.cache.clip(key.video), key.start, key.end)
            return part.people
        finally:
            part.searching.release()

    def _restore(self, job: Job, request: RestoreRequest, path: Path) -> Generator[Progress | Result, None, None]:
        key, restoration = request.part, request.restoration
        restoration.options()  # a value that is not allowed raises before any work
        clip = self.cache.clip(key.video)
        self.search.limits.check(clip, key.start, key.end, restoration.upscale)
        job.plan(self._work(request, clip), self._speed)
        cut = yield from self._cut(key, path)
        if restoration.names_people:
            found = yield from self._find_people(request.searched_part, path)
            tracks = yield from self._track(key, cut)
            restoration = use_tracks(restoration, found, tracks, first_frame(key.start, clip.frame_rate))
        # The result stays when the cache forgets the video.
        job.folder.mkdir(parents=True)
        before = job.folder / "before.mp4"
        before.hardlink_to(cut.path)
        restoration = replace(restoration, end=key.end)
        kind = "preview" if request.is_preview else "restored"
        after, both = (job.folder / result_name(request.name, name) for name in (kind, "side_by_side"))
        report = job.folder / result_name(request.name, "report", ".json")
        for step in self.backend.restore_part(before, cut.num_frames, restoration, (after, both, report)):
            if isinstance(step, RestoredPart):
                yield complete_report(step, request.name, restoration)
            else:
                yield step

    def estimate(self, request: RestoreRequest) -> float | None:
        """The expected time of a restoration in seconds, without the time in the queue; `None` if it is unknown.

        Raises:
            ValueError: If the video was deleted, or cannot be read.
        """
        with self.cache.use(request.video):
            expected = self._speed.expect(self._work(request, self.cache.clip(request.video)))
        return None if expected is None else sum(expected.values())

    def _work(self, request: RestoreRequest, clip: ClipInfo) -> dict[str, float]:
        """The work of each phase of a restoration, from what is known now."""
        key, restoration = request.part, request.restoration
        part, searched = self.cache.part(key), self.cache.part(request.searched_part)
        phases = [CUTTING] * (part.cut is None) + [FINDING] * (restoration.names_people and part.tracks is None)
        num_frames = clip.frames_between(key.start, key.end)
        num_faces = 1.0
        if searched.people is not None:
            num_faces = searched.people.faces_per_frame(restoration.people)
        return {
            phase: work_of(phase, num_frames, num_faces, restoration.upscale)
            for phase in (*phases, RESTORING, COMPARING)
        }

    def _cut(self, key: PartKey, path: Path) -> Generator[Progress, None, CutPart]:
        part = self.cache.part(key)
        if part.cut is None:
            phase, target = Phase(CUTTING), self.cache.new_path(key)
            expected, num_frames = self.cache.clip(key.video).frames_between(key.start, key.end), 0
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
