"""The whole road: video -> faces -> tracks -> aligned crops -> restored crops -> pasted frames -> video.

`KeepPipeline.restore_frames` is where everything meets, in the order of the data.
"""

import os
import time
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import cv2
import numpy as np
import torch
from diffusers import DiffusionPipeline
from diffusers.utils import BaseOutput
from PIL import Image

from .align import crop_face, estimate_alignment, is_grey, paste_face, to_grey
from .convert import convert_checkpoint, load_checkpoint
from .detector import FaceDetector, Faces, YuNet
from .flow import GMFlow
from .frames import OUTPUT_TYPES, read_frames, to_crops, to_tensor, write_frames
from .kalman import KalmanGainNetwork, KalmanState
from .recursion import KalmanRecursion
from .tracks import FaceTrack, largest, link_faces, smooth_landmarks
from .video import VideoReader, VideoWriter


BUILT_IN = {"keep-tiny": Path(__file__).parent / "checkpoints" / "keep-tiny"}
SMOOTHING_SECONDS = 0.2  # the published 5 frames at 25 frames per second
LONGEST_GAP_SECONDS = 0.5
DETECTION_BATCH = 8


@dataclass
class KeepPipelineOutput(BaseOutput):
    """Restored video.

    Args:
        frames (`list[list[PIL.Image.Image]]`, `np.ndarray` or `torch.Tensor`): One video, in diffusers' convention: a
            list with one list of frames, `(1, t, h, w, 3)`, or `(1, t, 3, h, w)`; arrays in [0, 1].
        tracks (`list[FaceTrack]`): The people found, with smoothed landmarks; empty for aligned input.
    """

    frames: list[list[Image.Image]] | np.ndarray | torch.Tensor
    tracks: list[FaceTrack]


@dataclass(frozen=True)
class Options:
    """The checked options of one call."""

    faces: str
    min_face_size: float
    fidelity: float
    strength: float
    upscale: int
    gain_mode: str


@dataclass
class Scan:
    """What one look through a video tells before anything is restored."""

    tracks: list[FaceTrack] = field(default_factory=list)
    num_frames: int = 0
    grey: bool = False


class KeepPipeline(DiffusionPipeline):
    """Restore faces in video with KEEP.

    Args:
        vq ([`KeepVQModel`]): The face model.
        kalman ([`KalmanGainNetwork`], *optional*): The gain network; without it every frame stands alone.
        flow ([`GMFlow`], *optional*): Optical flow; goes with `kalman`.
        detector ([`FaceDetector`] or [`YuNet`], *optional*): Finds faces; without one, YuNet is loaded from the Hub
            the first time that faces must be found.
        gain_window (`int`, *optional*, defaults to 20): Frames that the gain network sees at once.
        fidelity (`float`, *optional*): What calls use when they do not say; 1.0 by default, 0.5 without `kalman`.
    """

    model_cpu_offload_seq = "detector->flow->kalman->vq"
    _optional_components: ClassVar = ["detector", "flow", "kalman"]

    def __init__(
        self,
        vq: Any,
        kalman: KalmanGainNetwork | None = None,
        flow: GMFlow | None = None,
        detector: FaceDetector | YuNet | None = None,
        gain_window: int = 20,
        fidelity: float | None = None,
    ) -> None:
        super().__init__()
        if (kalman is None) != (flow is None):
            raise ValueError("The gain network and the flow network go together: give both or none.")
        if fidelity is None:
            # KEEP's features of the crop are always fully on; 0.5 is CodeFormer's own default.
            fidelity = 0.5 if kalman is None else 1.0
        self.register_modules(vq=vq, kalman=kalman, flow=flow, detector=detector)
        self.register_to_config(gain_window=gain_window, fidelity=fidelity)
        self._yunet: YuNet | None = None

    @classmethod
    def from_pretrained(cls, name: str | os.PathLike, **kwargs: Any) -> "KeepPipeline":
        """Load a pipeline from the package ("keep-tiny"), a folder, or the Hub.

        Args:
            name (`str` or `os.PathLike`): Built-in name, folder, or Hub id.
            kwargs: As of `DiffusionPipeline.from_pretrained`: `dtype`, `variant`, `cache_dir`, components, ...
        """
        if str(name) in BUILT_IN and not Path(name).is_dir():
            name = BUILT_IN[str(name)]
        return super().from_pretrained(name, **kwargs)

    @classmethod
    def from_single_file(
        cls,
        checkpoint: str | os.PathLike,
        *,
        detector: FaceDetector | YuNet | None = None,
        dtype: torch.dtype = torch.float32,
        **config: Any,
    ) -> "KeepPipeline":
        """Build a pipeline from a published checkpoint of KEEP or CodeFormer.

        Args:
            checkpoint (`str` or `os.PathLike`): The file; nothing in it is executed.
            detector ([`FaceDetector`] or [`YuNet`], *optional*): See the class.
            dtype (`torch.dtype`, *optional*, defaults to `torch.float32`): Of the networks.
            config: Settings that the weights do not tell, see `keep_hf.convert.convert_checkpoint`.

        Raises:
            ValueError: If the file is missing, damaged, or of another network; it names what does not fit.
        """
        components = convert_checkpoint(load_checkpoint(checkpoint), **config)
        if "vq" not in components:
            raise ValueError(f"{checkpoint} holds GMFlow alone; a pipeline needs a checkpoint of KEEP or CodeFormer.")
        for component in components.values():
            torch.nn.Module.to(component, dtype)  # ModelMixin.to warns of modules to keep in float32; there are none
        return cls(**components, detector=detector)

    @torch.no_grad()
    def __call__(
        self,
        video: Any,
        *,
        aligned: bool = False,
        faces: str = "all",
        min_face_size: float = 0,
        fidelity: float | None = None,
        strength: float = 1.0,
        upscale: int = 1,
        gain_mode: str = "stream",
        frame_rate: float = 25.0,
        output_type: str = "pil",
        return_dict: bool = True,
    ) -> KeepPipelineOutput | tuple:
        """Restore the faces of a video that fits in memory (`restore_video` takes files of any length).

        Args:
            video: Path; list or iterator of `PIL.Image` or uint8 frames `(h, w, 3)`; uint8 array `(t, h, w, c)`; float
                array `(t, h, w, c)` or float tensor `(t, c, h, w)` in [0, 1].
            aligned (`bool`, *optional*, defaults to `False`): The frames are face crops already, aligned to the FFHQ
                template; they are resized to the model's size and come back at it.
            faces (`str`, *optional*, defaults to `"all"`): `"all"`, or `"largest"` for one face at a time.
            min_face_size (`float`, *optional*, defaults to 0): Faces smaller than so many pixels stay as they are.
            fidelity (`float`, *optional*): From 0 (the codes alone make the face) to 1 (stay close to the input).
            strength (`float`, *optional*, defaults to 1.0): Blend of the result with the input, from 0 to 1.
            upscale (`int`, *optional*, defaults to 1): Whole number by which the frames grow; 1 to 4.
            gain_mode (`str`, *optional*, defaults to `"stream"`): `"stream"` carries the state through the whole
                track; `"official"` starts anew every `gain_window` frames, as the published script does.
            frame_rate (`float`, *optional*, defaults to 25.0): Frames per second when `video` is not a file; the
                smoothing of landmarks is measured in seconds.
            output_type (`str`, *optional*, defaults to `"pil"`): `"pil"`, `"np"` or `"pt"`.
            return_dict (`bool`, *optional*, defaults to `True`): Whether to return a [`KeepPipelineOutput`].

        Returns:
            [`KeepPipelineOutput`] or a tuple of the same.

        Raises:
            ValueError: If an argument or the video cannot be used.
        """
        options = self.check_options(faces, min_face_size, fidelity, strength, upscale, gain_mode)
        if output_type not in OUTPUT_TYPES:
            raise ValueError(f"output_type must be one of {', '.join(OUTPUT_TYPES)}, got {output_type!r}.")
        if not (np.isfinite(frame_rate) and frame_rate > 0):
            raise ValueError(f"frame_rate must be positive, got {frame_rate}.")
        if isinstance(video, str | os.PathLike):
            with VideoReader(video) as reader:
                frames, frame_rate = [frame.image for frame in reader], float(reader.frame_rate)
        else:
            frames = read_frames(video)

        if aligned:
            scan = Scan([], len(frames), all(map(is_grey, frames)))
            restored = self.restore_aligned(frames, scan.grey, options)
        else:
            scan = self.scan(frames, frame_rate, options)
            restored = self.restore_frames(frames, scan, options)
        with self.progress_bar(total=len(frames)) as bar:
            result = write_frames(_counted(restored, bar), output_type)
        self.maybe_free_model_hooks()
        return KeepPipelineOutput(result, scan.tracks) if return_dict else (result, scan.tracks)

    @torch.no_grad()
    def restore_video(
        self,
        source: str | os.PathLike,
        target: str | os.PathLike,
        *,
        aligned: bool = False,
        faces: str = "all",
        min_face_size: float = 0,
        fidelity: float | None = None,
        strength: float = 1.0,
        upscale: int = 1,
        gain_mode: str = "stream",
    ) -> dict[str, Any]:
        """Restore the faces of a video file; sound, other streams, timestamps and frame rate are the source's.

        The file is read twice, once to find and follow the faces and once to restore them: memory does not grow with
        its length.  The target appears under its name only when it is complete.

        Args:
            source (`str` or `os.PathLike`): The video.
            target (`str` or `os.PathLike`): `.mp4`, `.mov`, `.mkv` or `.webm`.
            aligned, faces, min_face_size, fidelity, strength, upscale, gain_mode: As of `__call__`.

        Returns:
            `dict`: A report: frames, size, tracks (id, first and last frame, face size in pixels) and seconds spent.

        Raises:
            ValueError: If an argument or the video cannot be used.
        """
        options = self.check_options(faces, min_face_size, fidelity, strength, upscale, gain_mode)
        started = time.monotonic()
        with VideoReader(source) as reader:
            size = self.vq.config.sample_size
            width, height = (size, size) if aligned else (reader.width * upscale, reader.height * upscale)
            # Opened before the long work, so that a target that cannot be written is known at once.
            with VideoWriter(target, like=reader, width=width, height=height) as writer:
                if aligned:
                    scan = Scan(grey=True)
                    for frame in reader:
                        scan.grey = scan.grey and is_grey(frame.image)
                        scan.num_frames += 1
                else:
                    scan = self.scan((frame.image for frame in reader), float(reader.frame_rate), options)
                scanned = time.monotonic()
                times: deque[tuple[int, int]] = deque()
                images = _images(reader, times)
                restored = (
                    self.restore_aligned(images, scan.grey, options)
                    if aligned
                    else self.restore_frames(images, scan, options)
                )
                with self.progress_bar(total=scan.num_frames) as bar:
                    for image in _counted(restored, bar):
                        writer.write(image, *times.popleft())
        self.maybe_free_model_hooks()
        return {
            "source": str(source),
            "target": str(target),
            "frames": scan.num_frames,
            "frame_rate": float(reader.frame_rate),
            "size": [width, height],
            "tracks": [_describe(track) for track in scan.tracks],
            "seconds": {"scan": scanned - started, "restore": time.monotonic() - scanned},
        }

    def check_options(
        self,
        faces: str,
        min_face_size: float,
        fidelity: float | None,
        strength: float,
        upscale: int,
        gain_mode: str,
    ) -> Options:
        """Refuse what cannot be meant, before any work is done."""
        if faces not in ("all", "largest"):
            raise ValueError(f"faces must be 'all' or 'largest', got {faces!r}.")
        if not min_face_size >= 0:
            raise ValueError(f"min_face_size must be 0 or more pixels, got {min_face_size}.")
        fidelity = self.config.fidelity if fidelity is None else fidelity
        for name, value in (("fidelity", fidelity), ("strength", strength)):
            if not 0 <= value <= 1:
                raise ValueError(f"{name} must lie in 0 to 1, got {value}.")
        if upscale not in (1, 2, 3, 4):
            raise ValueError(f"upscale must be 1, 2, 3 or 4, got {upscale}.")
        if gain_mode not in ("stream", "official"):
            raise ValueError(f"gain_mode must be 'stream' or 'official', got {gain_mode!r}.")
        return Options(faces, min_face_size, float(fidelity), strength, upscale, gain_mode)

    def scan(self, frames: Iterable[np.ndarray], frame_rate: float, options: Options) -> Scan:
        """Find everybody, follow them, smooth their landmarks; and see whether the clip is grey.

        Args:
            frames (`Iterable[np.ndarray]`): uint8 RGB frames of one size.
            frame_rate (`float`): Frames per second.
            options (`Options`): From `check_options`.
        """
        detector = self.detector or self._yunet_from_hub()
        detections: list[Faces] = []
        grey = True
        for batch in _batches(frames, DETECTION_BATCH):
            detections += detector.detect(batch)
            grey = grey and all(map(is_grey, batch))
        tracks = link_faces(
            detections,
            max_gap=max(1, round(LONGEST_GAP_SECONDS * frame_rate)),
            min_face_size=options.min_face_size,
        )
        if options.faces == "largest":
            tracks = largest(tracks)
        for track in tracks:
            track.landmarks = smooth_landmarks(track.landmarks, sigma=SMOOTHING_SECONDS * frame_rate)
        return Scan(tracks, len(detections), grey)

    def restore_frames(self, frames: Iterable[np.ndarray], scan: Scan, options: Options) -> Iterator[np.ndarray]:
        """Restore the tracked faces of frames, a window at a time.

        Args:
            frames (`Iterable[np.ndarray]`): The frames that were scanned, again.
            scan (`Scan`): From `scan`.
            options (`Options`): From `check_options`.

        Yields:
            `np.ndarray`: uint8 RGB frames, `upscale` times as large; untouched where nobody is.
        """
        size = self.vq.config.sample_size
        states: dict[int, KalmanState] = {}
        first = 0
        for window in _batches(frames, self.config.gain_window):
            # Only the window before hands states on: those of people who left would pile up.
            previous, states = states, {}
            results = [_enlarge(frame, options.upscale) for frame in window]
            for track in scan.tracks:
                # The part of the track that lies in the window
                start = max(first, int(track.frames[0]))
                stop = min(first + len(window), int(track.frames[-1]) + 1)
                if start >= stop:
                    continue
                landmarks = track.landmarks[start - track.frames[0] : stop - track.frames[0]]
                matrices = [estimate_alignment(points, size) for points in landmarks]
                inside = window[start - first : stop - first]
                crops = [crop_face(frame, matrix, size) for frame, matrix in zip(inside, matrices, strict=True)]
                state = previous.get(track.track_id) if options.gain_mode == "stream" else None
                faces, states[track.track_id] = self.restore_crops(crops, state, options.fidelity)
                for i, (face, matrix) in enumerate(zip(faces, matrices, strict=True), start - first):
                    face = to_grey(face) if scan.grey else face
                    results[i] = paste_face(results[i], face, _enlarged(matrix, options.upscale), options.strength)
            yield from results
            first += len(window)

    def restore_aligned(self, frames: Iterable[np.ndarray], grey: bool, options: Options) -> Iterator[np.ndarray]:
        """Restore frames that are face crops already; they come back at the model's size."""
        size = self.vq.config.sample_size
        state = None
        for window in _batches(frames, self.config.gain_window):
            crops = [cv2.resize(frame, (size, size), interpolation=cv2.INTER_LINEAR) for frame in window]
            faces, state = self.restore_crops(crops, state, options.fidelity)
            if options.gain_mode == "official":
                state = None
            for crop, face in zip(crops, faces, strict=True):
                face = to_grey(face) if grey else face
                yield cv2.addWeighted(face, options.strength, crop, 1 - options.strength, 0)

    def restore_crops(
        self, crops: list[np.ndarray], state: KalmanState | None, fidelity: float
    ) -> tuple[list[np.ndarray], KalmanState]:
        """Run the recursion over the aligned crops of one person.

        Args:
            crops (`list[np.ndarray]`): uint8 RGB `(size, size, 3)` of the model's size.
            state (`KalmanState`, *optional*): Of the frame before; `None` begins anew.
            fidelity (`float`): From 0 to 1.

        Returns:
            The restored crops and the state after the last.
        """
        recursion = KalmanRecursion(self.vq, self.kalman, self.flow)
        output = recursion(to_tensor(crops, self._execution_device, self.vq.dtype), state, fidelity)
        return to_crops(output.frames[0]), output.state

    def _yunet_from_hub(self) -> YuNet:
        if self._yunet is None:
            self._yunet = YuNet.from_pretrained()
        return self._yunet


def _images(reader: VideoReader, times: deque[tuple[int, int]]) -> Iterator[np.ndarray]:
    """The frames of a video; their timestamps and durations are left in `times`."""
    for frame in reader:
        times.append((frame.pts, frame.duration))
        yield frame.image


def _batches(frames: Iterable[np.ndarray], length: int) -> Iterator[list[np.ndarray]]:
    batch = []
    for frame in frames:
        batch.append(frame)
        if len(batch) == length:
            yield batch
            batch = []
    if batch:
        yield batch


def _counted(frames: Iterator[np.ndarray], bar: Any) -> Iterator[np.ndarray]:
    for frame in frames:
        yield frame
        bar.update()


def _enlarge(frame: np.ndarray, factor: int) -> np.ndarray:
    if factor == 1:
        return frame
    return cv2.resize(frame, None, fx=factor, fy=factor, interpolation=cv2.INTER_CUBIC)


def _enlarged(matrix: np.ndarray, factor: int) -> np.ndarray:
    """The map from pixels of the enlarged frame to the same crop; pixel centres lie at whole numbers."""
    result = matrix / factor
    result[:, 2] = matrix[:, 2] + matrix[:, :2] @ np.full(2, (1 - factor) / (2 * factor))
    return result


def _describe(track: FaceTrack) -> dict[str, Any]:
    sides = (track.boxes[:, 2:] - track.boxes[:, :2]).max(axis=1)
    return {
        "id": track.track_id,
        "first_frame": int(track.frames[0]),
        "last_frame": int(track.frames[-1]),
        "face_size": round(float(np.median(sides)), 1),
    }
