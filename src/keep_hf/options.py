"""The options of a restoration and of the output file: their names, defaults, meaning and checks, in one place."""

import math
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, fields
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any


if TYPE_CHECKING:  # the command line reads the defaults without importing numpy
    import numpy as np


GAIN_MODES = ("stream", "official")
LATENCIES = ("normal", "low")
AUTO = "auto"
DEFAULT_MODEL = "keep-small"
CODECS = ("h264", "hevc", "vp9")
PRESETS = ("ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow", "slower", "veryslow")
LARGEST_CRF = 51
# Of frames without times. Beyond, the times of frames do not fit into the units of containers.
MIN_FRAME_RATE, MAX_FRAME_RATE = 0.001, 10_000


@dataclass(frozen=True, kw_only=True)
class RestorationOptions:
    """How a video is restored. `KeepPipeline.__call__`, `restore_video` and `stream` take the same options by name.

    Args:
        aligned (`bool`, *optional*, defaults to `False`): The frames are face crops already, aligned to the FFHQ
            template. They are resized to the size of the model, and the result has that size. Options of whole frames
            must be left out: `faces`, `min_face_size`, `person_strength`, `upscale` and `background`.
        faces (`"all"`, `"largest"` or a collection of `int`, *optional*, defaults to `"all"`): All faces, one face at
            a time, or the people with these numbers, as `KeepPipeline.follow` returns them with the same `identity`.
        min_face_size (`float`, *optional*, defaults to 0): Faces whose box is smaller than this, in pixels, stay
            unchanged.
        fidelity (`float`, *optional*): Weight of the features of the input crop in the decoder, from 0 (the face is
            decoded from its codes alone) to 1 (closest to the input). By default the setting of the pipeline.
        strength (`float` or `"auto"`, *optional*, defaults to `"auto"`): Weight of the restored face against the
            input, from 0 to 1. With `"auto"` each face gets a weight of its own, which changes slowly: it depends on
            how degraded the face is and on how far the result departs from it, and a face that is already sharp is
            left as it is. See [`keep_hf.restoration.auto_strength`]. With `gain_mode="official"`, `"auto"` is 1.
        person_strength (`Mapping[int, float | str]`, *optional*): A strength of their own for single people, by their
            numbers as for `faces`: `{0: 1.0, 1: 0.5, 2: 0}` restores person 0 in full, blends person 1, leaves person
            2 as they are, and treats all others with `strength`. Every selected person is in the report, also with 0.
        upscale (`int`, *optional*, defaults to 1): Factor by which the frames are enlarged, from 1 to 4.
        gain_mode (`"stream"` or `"official"`, *optional*, defaults to `"stream"`): `"stream"` carries the Kalman state
            through a whole scene. `"official"` drops it after every `gain_window` frames and detects no scene cuts, as
            the published script does.
        latency (`"normal"` or `"low"`, *optional*, defaults to `"normal"`): With `"normal"`, tracking, smoothing and
            gains use up to three seconds of future frames. With `"low"`, for cameras, they use those before, and at
            most three frames after: every frame is returned three frames later. Needs `gain_mode="stream"`.
        background (`Callable`, *optional*): Enlarges a frame, a uint8 array `(h, w, 3)`; see
            [`keep_hf.restoration.background.load_background`]. Its result is resized where its factor is not
            `upscale`. By default frames are enlarged by cubic interpolation.
        frame_rate (`float`, *optional*, defaults to 25.0): Frames per second of frames in memory and of image folders.
            Video files have their own. Landmarks are smoothed, gaps filled and faces faded in over seconds.

    Raises:
        ValueError: If an option has a value that is not allowed; the message names the option and the value.
    """

    aligned: bool = False
    faces: str | Collection[int] = "all"
    min_face_size: float = 0.0
    fidelity: float | None = None
    strength: float | str = AUTO
    person_strength: Mapping[int, float | str] | None = None
    upscale: int = 1
    gain_mode: str = "stream"
    latency: str = "normal"
    background: "Callable[[np.ndarray], np.ndarray] | None" = None
    frame_rate: float = 25.0

    def __post_init__(self) -> None:
        if isinstance(self.faces, str):
            if self.faces not in ("all", "largest"):
                raise ValueError(f"faces must be 'all', 'largest' or a list of track numbers, got {self.faces!r}.")
        else:
            object.__setattr__(self, "faces", _track_numbers(self.faces))
        if not _is_from(0, self.min_face_size, math.inf):
            raise ValueError(f"min_face_size must be 0 or more pixels, got {self.min_face_size!r}.")
        if self.fidelity is not None and not _is_from(0, self.fidelity, 1):
            raise ValueError(f"fidelity must be from 0 to 1, got {self.fidelity!r}.")
        if not _is_strength(self.strength):
            raise ValueError(f"strength must be from 0 to 1 or {AUTO!r}, got {self.strength!r}.")
        object.__setattr__(self, "person_strength", self._check_person_strength())
        if not isinstance(self.upscale, Integral) or not _is_from(1, self.upscale, 4):
            raise ValueError(f"upscale must be 1, 2, 3 or 4, got {self.upscale!r}.")
        if not isinstance(self.gain_mode, str) or self.gain_mode not in GAIN_MODES:
            raise ValueError(f"gain_mode must be one of {', '.join(GAIN_MODES)}, got {self.gain_mode!r}.")
        if not isinstance(self.latency, str) or self.latency not in LATENCIES:
            raise ValueError(f"latency must be one of {', '.join(LATENCIES)}, got {self.latency!r}.")
        if self.latency == "low" and self.gain_mode == "official":
            raise ValueError(
                "latency must be 'normal' with gain_mode='official', which waits for whole windows, got 'low'."
            )
        if not _is_from(MIN_FRAME_RATE, self.frame_rate, MAX_FRAME_RATE):
            raise ValueError(
                f"frame_rate must be from {MIN_FRAME_RATE} to {MAX_FRAME_RATE:,} frames per second, got "
                f"{self.frame_rate!r}."
            )
        if self.aligned:
            self._check_aligned()
        for name in ("min_face_size", "fidelity", "strength", "upscale", "frame_rate"):
            object.__setattr__(self, name, _plain(getattr(self, name)))

    def _check_person_strength(self) -> dict[int, float | str] | None:
        """The strengths of single people in the order of their numbers, as `int` and `float`."""
        given = self.person_strength
        if given is None:
            return None
        if not isinstance(given, Mapping) or not all(map(_is_track_number, given)):
            raise ValueError(
                f"person_strength must map numbers of people of 0 or more to their strengths, got {given!r}."
            )
        if not all(map(_is_strength, given.values())):
            raise ValueError(f"person_strength must have values from 0 to 1 or {AUTO!r}, got {given!r}.")
        if not isinstance(self.faces, str) and not given.keys() <= set(self.faces):
            raise ValueError(f"person_strength must name people of faces={self.faces!r}, got {given!r}.")
        strengths = {int(number): value if isinstance(value, str) else float(value) for number, value in given.items()}
        return dict(sorted(strengths.items())) or None

    def _check_aligned(self) -> None:
        """Reject options of whole frames: an aligned crop is one face, and has the size of the model."""
        for name in ("faces", "min_face_size", "person_strength", "upscale", "background"):
            value = getattr(self, name)
            if value != getattr(RestorationOptions, name):
                raise ValueError(
                    f"{name} must be left out with aligned=True, which restores each frame as one face of the size of "
                    f"the model; got {value!r}."
                )

    def fixed_strength(self, person: int | None = None) -> float | None:
        """The weight of the restored faces of a person; `None` if `"auto"` decides.

        Args:
            person (`int`, *optional*): Number of the person; by default all without a strength of their own.
        """
        value = self.strength if person is None else (self.person_strength or {}).get(person, self.strength)
        if not isinstance(value, str):
            return value
        return 1.0 if self.gain_mode == "official" else None  # the published script blends nothing

    @classmethod
    def from_arguments(cls, arguments: Mapping[str, Any]) -> "RestorationOptions":
        """Take the options from the arguments of a call that has them all, by name.

        Args:
            arguments (`Mapping[str, Any]`): `locals()` at the beginning of a function. Other arguments are ignored.
        """
        return cls(**{field.name: arguments[field.name] for field in fields(cls)})


def _is_from(low: float, value: object, high: float) -> bool:
    """Whether a value is a number, also of numpy, and in a range; `bool` and NaN are not."""
    return isinstance(value, Real) and not isinstance(value, bool) and low <= float(value) <= high


def _plain(value: Any) -> Any:
    """A number as `int` or `float`, also one of numpy, which saved states and reports must not hold."""
    if isinstance(value, Integral):
        return int(value)
    return float(value) if isinstance(value, Real) else value


def _is_strength(value: object) -> bool:
    return (isinstance(value, str) and value == AUTO) or _is_from(0, value, 1)


def _is_track_number(value: object) -> bool:
    """Whether a value is a number of a track; `bool` is an `int` in Python, but not such a number."""
    return isinstance(value, Integral) and not isinstance(value, bool) and int(value) >= 0


def _track_numbers(faces: Collection[int]) -> tuple[int, ...]:
    """The numbers as `int`, also those of numpy."""
    numbers = tuple(faces) if isinstance(faces, Iterable) else ()
    if not numbers or not all(map(_is_track_number, numbers)):
        raise ValueError(f"faces must name at least one track by a number of 0 or more, got {faces!r}.")
    return tuple(int(face) for face in numbers)


@dataclass(frozen=True, kw_only=True)
class EncodingOptions:
    """How a video file is encoded. `KeepPipeline.restore_video` and `VideoWriter` take the same options by name.

    Args:
        codec (`"h264"`, `"hevc"` or `"vp9"`, *optional*): By default VP9 for `.webm`; otherwise H.264, or HEVC if the
            source has more than 8 bits and is not H.264 itself, or is HDR.
        crf (`int`, *optional*): Constant rate factor, from 0 (best) to 51. By default 16, which cannot be
            distinguished from the original by eye.
        preset (`str`, *optional*): Trade-off between time and file size of H.264 and HEVC, from `"ultrafast"` to
            `"veryslow"`; `"medium"` by default.

    Raises:
        ValueError: If an option has a value that is not allowed; the message names the option and the value.
    """

    codec: str | None = None
    crf: int | None = None
    preset: str | None = None

    def __post_init__(self) -> None:
        if self.codec is not None and not (isinstance(self.codec, str) and self.codec in CODECS):
            raise ValueError(f"codec must be one of {', '.join(CODECS)}, got {self.codec!r}.")
        if self.crf is not None and not (isinstance(self.crf, Integral) and _is_from(0, self.crf, LARGEST_CRF)):
            raise ValueError(f"crf must be from 0 to {LARGEST_CRF}, got {self.crf!r}.")
        object.__setattr__(self, "crf", _plain(self.crf))
        if self.preset is not None and not (isinstance(self.preset, str) and self.preset in PRESETS):
            raise ValueError(f"preset must be one of {', '.join(PRESETS)}, got {self.preset!r}.")
