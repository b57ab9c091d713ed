"""KEEP as a diffusers pipeline: video -> scenes -> faces -> tracks -> crops -> restored crops -> frames -> video.

The modules that do the work are, in the order of the data: `video.reader`, `faces.follower` (scene cuts, detection and
tracking), `restoration.face_restorer` (the recursion of KEEP), `restoration.compositor` (restored faces back into the
frames) and `video.writer`. `ConnectedPipeline._open_stream` connects them.
"""

import os
import time
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

import numpy as np
import torch

from ..faces.follower import FaceFollower
from ..faces.tracking.tracks import FaceTrack, link_tracks
from ..options import AUTO, EncodingOptions, RestorationOptions
from ..restoration.resumable import restore_file
from ..restoration.state import pack
from ..restoration.stream import FaceStream
from ..video.clip_formats import OUTPUT_TYPES, Frames, join_batch, read_frames, split_batch, write_frames
from ..video.open import create_video, open_video
from ..video.reader import prefetch
from .connected_pipeline import ConnectedPipeline
from .output import KeepPipelineOutput


# Frames between two points from which an interrupted run can be resumed.
SEGMENT_FRAMES = 250


class KeepPipeline(ConnectedPipeline):
    """Restore faces in video with KEEP (Kalman-inspired feature propagation, arXiv 2408.05205).

    The latent code of a face is the state of a Kalman filter (section 3.1 of the paper). It is observed in the input
    crop (equation 11) and predicted from the previous output, which optical flow moves to the current frame (equation
    12). A gain network weighs the prediction against the observation (section 3.2, "Kalman Filter System"), and
    cross-frame attention in the decoder keeps texture steady (section 3.3).

    Args:
        vq ([`KeepVQModel`]): The face model: LQ and HQ encoder, code transformer, codebook and decoder (section 3.2,
            "Generative Model").
        kalman ([`KalmanGainNetwork`], *optional*): The gain network; without it every frame is restored on its own.
        flow ([`GMFlow`] or [`DISFlow`], *optional*): Optical flow between the input crops; needed with `kalman`.
        detector ([`FaceDetector`] or [`YuNet`], *optional*): Face detector. By default YuNet, which is loaded from the
            Hub the first time that faces must be detected.
        parser (`transformers.SegformerForSemanticSegmentation`, *optional*): Face parser; what is in front of a face
            then stays visible. See [`keep_hf.faces.face_parser.load_parser`].
        identity ([`FaceIdentity`], *optional*): Face recognition network. It recognizes people after a cut, and
            reports contain the similarity of the faces before and after.
        gain_window (`int`, *optional*, defaults to 20): Number of frames that the gain network sees at once.
        fidelity (`float`, *optional*): Default of the option `fidelity`; by default 1.0, or 0.5 without `kalman`.
        release (`str`, *optional*): Name of the published checkpoint that the weights were converted from; a saved
            pipeline has a model card with its licence.
        checkpoint_sha256 (`str`, *optional*): SHA-256 of the checkpoint file that they were converted from.
        licence (`str`, *optional*): Licence of the weights, as the Hub names it ("apache-2.0"); for the model card.

    Raises:
        ValueError: If `vq` is missing, or only one of `kalman` and `flow` is passed.
    """

    def __call__(
        self,
        video: Any,
        *,
        aligned: bool = False,
        faces: str | Collection[int] = "all",
        min_face_size: float = 0.0,
        fidelity: float | None = None,
        strength: float | str = AUTO,
        person_strength: Mapping[int, float | str] | None = None,
        upscale: int = 1,
        gain_mode: str = "stream",
        latency: str = "normal",
        background: Callable[[np.ndarray], np.ndarray] | None = None,
        frame_rate: float = 25.0,
        output_type: str = "pil",
        return_dict: bool = True,
    ) -> KeepPipelineOutput | tuple:
        """Restore the faces of a video that fits in memory; `restore_video` is for files of any length.

        Args:
            video: Path of a video file, animated image or image folder; list or iterator of `PIL.Image` or of uint8
                arrays `(h, w, 3)`; uint8 array `(t, h, w, c)`; float array `(t, h, w, c)` or float tensor
                `(t, c, h, w)` in [0, 1]. Several videos: a list of these, or the `frames` of an earlier call.
            aligned, faces, min_face_size, fidelity, strength, person_strength: See [`RestorationOptions`].
            upscale, gain_mode, latency, background, frame_rate: See [`RestorationOptions`].
            output_type (`str`, *optional*, defaults to `"pil"`): `"pil"`, `"np"` or `"pt"`.
            return_dict (`bool`, *optional*, defaults to `True`): Whether to return a [`KeepPipelineOutput`].

        Returns:
            [`KeepPipelineOutput`] or a tuple of its fields.

        Raises:
            ValueError: If an option has a value that is not allowed, the video cannot be read, or the networks return
                NaN, as some do in float16.
        """
        if output_type not in OUTPUT_TYPES:
            raise ValueError(f"output_type must be one of {', '.join(OUTPUT_TYPES)}, got {output_type!r}.")
        options = RestorationOptions.from_arguments(locals())
        batch = split_batch(video)
        if batch is None:
            output = KeepPipelineOutput(*self._restore_clip(video, options, output_type))
        else:
            results, tracks = zip(*(self._restore_clip(clip, options, output_type) for clip in batch), strict=True)
            is_array = not isinstance(video, list | tuple)
            output = KeepPipelineOutput(join_batch(list(results), is_array), list(tracks))
        return output if return_dict else (output.frames, output.tracks)

    def _restore_clip(
        self, video: Any, options: RestorationOptions, output_type: str
    ) -> tuple[Frames, list[FaceTrack]]:
        frame_rate = options.frame_rate
        if isinstance(video, str | os.PathLike):
            with open_video(video, frame_rate) as reader:
                frames, frame_rate = [frame.image for frame in reader.read()], float(reader.frame_rate)
        else:
            frames = read_frames(video)

        placed_faces = []
        with self._open_stream(options, frame_rate) as stream, self.progress_bar(total=len(frames)) as bar:

            def restored_images() -> Iterator[np.ndarray]:
                for restored in stream.restore(frames):
                    placed_faces.append([] if options.aligned else restored.followed.faces)
                    bar.update()
                    yield restored.image

            result = write_frames(restored_images(), output_type)
        return result, link_tracks(placed_faces)

    def restore_video(
        self,
        source: str | os.PathLike,
        target: str | os.PathLike,
        *,
        aligned: bool = False,
        faces: str | Collection[int] = "all",
        min_face_size: float = 0.0,
        fidelity: float | None = None,
        strength: float | str = AUTO,
        person_strength: Mapping[int, float | str] | None = None,
        upscale: int = 1,
        gain_mode: str = "stream",
        latency: str = "normal",
        background: Callable[[np.ndarray], np.ndarray] | None = None,
        frame_rate: float = 25.0,
        video_stream: int | None = None,
        strict: bool = False,
        codec: str | None = None,
        crf: int | None = None,
        preset: str | None = None,
        resume: bool = False,
        segment_frames: int = SEGMENT_FRAMES,
    ) -> dict[str, Any]:
        """Restore the faces of a video file. Sound, other streams, timestamps and frame rate are those of the source.

        The file is streamed: memory does not grow with its length, and decoding, restoration and encoding run at the
        same time. The target appears under its name only when it is complete. Until then the finished segments are in
        a folder beside it, named `target.part`, from which an interrupted run can be resumed.

        Args:
            source (`str` or `os.PathLike`): Video file, animated GIF, PNG or WebP, or image folder.
            target (`str` or `os.PathLike`): `.mp4`, `.mov`, `.mkv` or `.webm` file; a name without suffix becomes an
                image folder.
            aligned, faces, min_face_size, fidelity, strength, person_strength: See [`RestorationOptions`].
            upscale, gain_mode, latency, background, frame_rate: See [`RestorationOptions`].
            video_stream (`int`, *optional*): Which video stream of a file is restored, as its index among all streams.
                By default the one that is marked as the default, or else the first. Others are copied.
            strict (`bool`, *optional*, defaults to `False`): Raise an error if the source is truncated or damaged. By
                default a truncated file is restored as far as it goes, and the last good frame is shown again in the
                place of a frame that cannot be decoded; warnings and the report count such frames.
            codec, crf, preset: How the file is encoded, see [`EncodingOptions`]. Videos with more than 8 bits per
                colour, also HDR, keep 10 bits and their metadata, except in WebM.
            resume (`bool`, *optional*, defaults to `False`): Continue after the last finished segment of an earlier
                run, if there is one. The result is that of an uninterrupted run. Options, weights, frame rate and the
                version of the package must be the same. A `background` from `load_background` is recognized by its
                weights, any other callable by its name.
            segment_frames (`int`, *optional*, defaults to 250): Frames after which a segment ends, unless its scene
                ends before. A run can be resumed from the ends of segments.

        Returns:
            `dict`: A report: options, frames, size, scenes, tracks (one per person), by what people were recognized
                after cuts (`recognized_by`), seconds by stage, peak memory, and what is damaged in the source:
                `damaged_frames`, `resized_frames`, `truncated`, `announced_frames`, `warnings`.

        Raises:
            ValueError: If an option has a value that is not allowed, the source cannot be read, the target cannot be
                of this kind, the networks return NaN, as some do in float16, or the run to resume differs from this
                one; the message names what differs.
            OSError: If the target cannot be written.
        """
        if segment_frames < 1:
            raise ValueError(f"segment_frames must be 1 or more, got {segment_frames}.")
        options = RestorationOptions.from_arguments(locals())
        encoding = EncodingOptions(codec=codec, crf=crf, preset=preset)
        started = time.perf_counter()
        with open_video(source, options.frame_rate, strict, video_stream) as reader:
            frame_rate = float(reader.frame_rate)
            size, factor = self.vq.config.sample_size, options.upscale
            width, height = (size, size) if aligned else (reader.width * factor, reader.height * factor)
            with (
                create_video(target, reader, width, height, resume, encoding) as writer,
                self._open_stream(options, frame_rate, is_exact=writer.bits > 8) as stream,
                self._count_frames(reader.num_frames) as bar,
            ):
                job = self._describe_job(options, frame_rate)
                for step in restore_file(reader, writer, stream, job, segment_frames):
                    if isinstance(step, int):
                        bar.update(step - bar.n)
                    else:
                        report = step
        report["seconds"]["total"] = round(time.perf_counter() - started, 3)
        found = {track["id"] for track in report["tracks"]}
        if missing := sorted((options.person_strength or {}).keys() - found):
            names = ", ".join(map(str, missing))
            warnings.warn(f"{source}: no person with the number {names}, which person_strength has.", stacklevel=2)
        about = {
            "source": str(source),
            "target": str(target),
            "options": pack({name: job[name] for name in vars(options)}),
            "video_stream": video_stream,
            "frame_rate": frame_rate,
            "size": [width, height],
        }
        return about | report

    def stream(
        self,
        *,
        aligned: bool = False,
        faces: str | Collection[int] = "all",
        min_face_size: float = 0.0,
        fidelity: float | None = None,
        strength: float | str = AUTO,
        person_strength: Mapping[int, float | str] | None = None,
        upscale: int = 1,
        gain_mode: str = "stream",
        latency: str = "normal",
        background: Callable[[np.ndarray], np.ndarray] | None = None,
        frame_rate: float = 25.0,
    ) -> FaceStream:
        """Restore frames as they come, from a camera or a generator, in bounded memory.

            with pipe.stream(frame_rate=30, latency="low") as stream:
                for frame in camera:
                    for restored in stream.step(frame):
                        show(restored)
                for restored in stream.flush():
                    show(restored)

        Args:
            aligned, faces, min_face_size, fidelity, strength, person_strength: See [`RestorationOptions`].
            upscale, gain_mode, latency, background, frame_rate: See [`RestorationOptions`].

        Returns:
            [`FaceStream`]

        Raises:
            ValueError: If an option has a value that is not allowed.
        """
        options = RestorationOptions.from_arguments(locals())
        return self._open_stream(options, options.frame_rate)

    @torch.no_grad()
    def follow(
        self,
        video: Any,
        *,
        faces: str | Collection[int] = "all",
        min_face_size: float = 0.0,
        frame_rate: float = 25.0,
        video_stream: int | None = None,
    ) -> list[FaceTrack]:
        """Find and track the faces of a video without restoring them; the option `faces` takes their numbers.

        A person who returns after a cut is one entry, if they are recognized: by the network `identity` of the
        pipeline, or without it by an appearance that is almost the same.

        Args:
            video: As for `__call__`; a file may have any length.
            faces, min_face_size, frame_rate: See [`RestorationOptions`].
            video_stream (`int`, *optional*): See `restore_video`.

        Returns:
            `list[FaceTrack]`: One per person, in the order of their first appearance.

        Raises:
            ValueError: If an option has a value that is not allowed, or the video cannot be read.
        """
        options = RestorationOptions(faces=faces, min_face_size=min_face_size, frame_rate=frame_rate)
        detector = self.face_detector()

        def follower(rate: float) -> FaceFollower:
            return FaceFollower(detector, rate, options.faces, options.min_face_size, identity=self.identity)

        try:
            if isinstance(video, str | os.PathLike):
                with open_video(video, options.frame_rate, video_stream=video_stream) as reader:
                    frames = prefetch(reader.read())
                    return follower(float(reader.frame_rate)).tracks(frame.image for frame in frames)
            return follower(options.frame_rate).tracks(read_frames(video))
        finally:
            self.maybe_free_model_hooks()

    def _count_frames(self, num_frames: int | None) -> Any:
        # Some files do not contain the number of their frames; without it the progress bar has no end.
        return self.progress_bar(total=num_frames) if num_frames else self.progress_bar(iter(()))
