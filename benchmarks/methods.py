"""The methods that are compared: KEEP, KEEP without one of its parts, other networks, and frames of other programs.

The networks of the paper's Table 1 are in the folder baselines.

A method takes a degraded clip of aligned faces and returns as many faces, of any size.  The variants are built from
the classes of the package and share the weights of KEEP.  They were not trained without the missing part, which
favours the complete network.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from keep_hf import KeepPipeline, KeepVQModel
from keep_hf.models.flow.dis import DISFlow
from keep_hf.video.media_files import is_video
from keep_hf.video.open import open_video
from keep_hf.video.pixels import to_images, to_tensor
from training.data.packed_faces import SIZE as DIRECT_SIZE
from training.networks import load_direct

from .baselines import Baseline
from .baselines.basicvsr import BasicVSR
from .baselines.basicvsr_plusplus import BasicVSRPlusPlus
from .baselines.edvr import EDVR
from .baselines.gfpgan import GFPGAN
from .baselines.gpen import GPEN
from .baselines.recurrent import WINDOW, RecurrentNetwork
from .baselines.restoreformer import RestoreFormer
from .clips import DegradedClip
from .plain_unet import PlainUNet


VARIANTS = ("keep", "official", "no-kfn", "no-update", "no-cfa", "per-frame", "dis")
NAMES = ("bicubic", *VARIANTS, "codeformer")
# The video networks restore windows of a clip. With this suffix the forward state is carried over to the next window.
CARRIED = "-carried"
RECURRENT = {"basicvsr": BasicVSR, "basicvsr++": BasicVSRPlusPlus}
BASELINES: dict[str, type[BasicVSR | BasicVSRPlusPlus | EDVR | GFPGAN | RestoreFormer | GPEN]] = {
    **RECURRENT,
    "edvr": EDVR,
    "gfpgan": GFPGAN,
    "restoreformer": RestoreFormer,
    "gpen": GPEN,
}
FILES = ", ".join(f"{name}:FILE" for name in (*BASELINES, *(f"{name}{CARRIED}" for name in RECURRENT)))
# All methods, for messages
FORMS = f"{', '.join(NAMES)}, {FILES}, unet:FOLDER, direct:NAME=FILE or folder:NAME=PATH"

Restore = Callable[[DegradedClip], np.ndarray]


@dataclass(frozen=True)
class Method:
    """A row of the table.

    Args:
        name (`str`): Name in tables and files.
        source (`str`): What the result depends on in addition to the name: fingerprint of weights, file or folder.
        restore (`Callable[[DegradedClip], np.ndarray]`): Returns faces `(t, size, size, 3)`, RGB, uint8, of any size.
        note (`str`, *optional*): How the method is run, for the text below the table.
    """

    name: str
    source: str
    restore: Restore
    note: str = ""


def load_methods(
    specifications: list[str],
    pipe: KeepPipeline,
    fidelity: float | None = None,
    codeformer: str | Path | None = None,
    window: int = WINDOW,
) -> list[Method]:
    """Load methods.

    Args:
        specifications (`list[str]`): One of `NAMES`, `NAME:FILE` with a name of `BASELINES` and a published file,
            `unet:FOLDER` (see plain_unet.py), `direct:NAME=FILE` (a direct path from training/train_direct.py, used
            frame by frame, without its filter) or `folder:NAME=PATH` (faces of another program, see [`read_folder`]).
        pipe ([`KeepPipeline`]): KEEP; the methods share its networks.
        fidelity (`float`, *optional*): Fidelity of KEEP and its variants; that of the pipeline by default.
        codeformer (`str` or `Path`, *optional*): CodeFormer, by its published name or converted, for `codeformer`.
        window (`int`, *optional*, defaults to 15): Frames per window of BasicVSR and BasicVSR++.

    Returns:
        `list[Method]`: In the same order.

    Raises:
        ValueError: If a method is unknown, two have the same name, or a model or folder is missing or of another type.
    """
    if pipe.kalman is None:
        raise ValueError(
            "the model restores single frames, it has no gain network: pass KEEP, and this as codeformer."
        )
    if window < 1:
        raise ValueError(f"windows have at least one frame, got {window}.")
    fidelity = pipe.config.fidelity if fidelity is None else fidelity
    methods = [_load_method(specification, pipe, fidelity, codeformer, window) for specification in specifications]
    names = [method.name for method in methods]
    for name in names:
        if names.count(name) > 1 or name in ("", "truth") or Path(name).name != name:
            raise ValueError(f"methods need unique names that can be names of files, got {names}.")
    return methods


def _load_method(
    specification: str, pipe: KeepPipeline, fidelity: float, codeformer: str | Path | None, window: int
) -> Method:
    kind, _, argument = specification.partition(":")
    if argument and kind.removesuffix(CARRIED) in (RECURRENT if kind.endswith(CARRIED) else BASELINES):
        return _baseline(kind, argument, pipe.device, window)
    if kind == "unet" and argument:
        unet = PlainUNet.from_pretrained(argument).to(pipe.device)
        return Method("unet", argument, _frame_by_frame(_network(unet, unet.config.sample_size, pipe.device)))
    if kind == "direct" and "=" in argument:
        name, _, path = argument.partition("=")
        direct = load_direct(path, DIRECT_SIZE).to(pipe.device)
        return Method(name, path, _frame_by_frame(_network(direct, DIRECT_SIZE, pipe.device)))
    if kind == "folder" and "=" in argument:
        name, _, path = argument.partition("=")
        return Method(name, path, _folder(Path(path)))
    if specification == "bicubic":
        # Faces smaller than the size of the comparison are enlarged to it by cubic interpolation.
        return Method("bicubic", "", lambda clip: clip.frames)
    if specification == "codeformer":
        return _codeformer(codeformer, pipe.device)
    if specification in VARIANTS:
        source = f"{pipe.fingerprint()}, fidelity {fidelity}"
        return Method(specification, source, _variant(specification, pipe, fidelity))
    raise ValueError(f"there is no method {specification!r}: pass {FORMS}.")


# --- KEEP and its variants -------------------------------------------------------------------------------------------


def _variant(name: str, pipe: KeepPipeline, fidelity: float) -> Restore:
    """KEEP, or KEEP with a part left out or replaced (the ablation of Table 3 in the paper)."""
    if name in ("keep", "official"):
        return _pipeline(pipe, fidelity, gain_mode="official" if name == "official" else "stream")
    vq = pipe.vq
    if name in ("no-cfa", "per-frame"):
        vq = without_part(vq, "cross_frame")
    if name == "no-update":
        # The filter updates the latents only, as in the paper.
        vq = without_part(vq, "feature_update")
    if name in ("no-kfn", "per-frame"):
        # Without a gain network nothing is predicted: the observation alone is decoded.
        return _pipeline(KeepPipeline(vq=vq), fidelity)
    flow = DISFlow() if name == "dis" else pipe.flow
    window = pipe.config.gain_window
    pipe = KeepPipeline(vq=vq, kalman=pipe.kalman, flow=flow, gain_window=window)
    return _pipeline(pipe, fidelity)


def without_part(vq: KeepVQModel, part: str) -> KeepVQModel:
    """Copy a face model without its cross-frame attention (`"cross_frame"`) or its update of features
    (`"feature_update"`)."""
    rest = KeepVQModel.from_config(vq.config, **{f"{part}_sizes": ()})
    rest.load_state_dict({name: value for name, value in vq.state_dict().items() if not name.startswith(f"{part}.")})
    # ModelMixin.to would warn about modules to keep in float32; there are none.
    return torch.nn.Module.to(rest, vq.device, vq.dtype).eval()


def _codeformer(source: str | Path | None, device: torch.device) -> Method:
    if source is None:
        raise ValueError("codeformer needs its weights: pass its name, or a folder made by `keep-hf convert`.")
    pipe = KeepPipeline.from_pretrained(source).to(device)
    if pipe.kalman is not None:
        raise ValueError(f"{source} is a KEEP model, with a gain network, not CodeFormer.")
    return Method("codeformer", pipe.fingerprint(), _pipeline(pipe, pipe.config.fidelity))


def _pipeline(pipe: KeepPipeline, fidelity: float, gain_mode: str = "stream") -> Restore:
    pipe.set_progress_bar_config(disable=True)

    def restore(clip: DegradedClip) -> np.ndarray:
        # The networks are measured, so nothing of the input is blended in.
        options: dict[str, Any] = {"fidelity": fidelity, "gain_mode": gain_mode, "strength": 1.0}
        with pipe.stream(aligned=True, frame_rate=clip.frame_rate, **options) as stream:
            return np.stack([restored.image for restored in stream.restore(clip.frames)])

    return restore


# --- Other networks and programs -------------------------------------------------------------------------------------


def _baseline(kind: str, file: str, device: torch.device, window: int) -> Method:
    network = BASELINES[kind.removesuffix(CARRIED)].from_checkpoint(file).to(device)
    if isinstance(network, RecurrentNetwork):
        carry = kind.endswith(CARRIED)
        seams = "the forward state is carried over" if carry else "each is a clip of its own, as published"
        note = f"windows of {window} frame{'s' * (window > 1)} without overlap, {seams}"
        return Method(kind, f"{file}, {note}", lambda clip: network.restore(clip.frames, window, carry), note)
    return Method(kind, file, _without_windows(network))


def _without_windows(network: Baseline) -> Restore:
    return lambda clip: network.restore(clip.frames)


def _network(network: torch.nn.Module, size: int, device: torch.device) -> Callable[[np.ndarray], np.ndarray]:
    """A network that restores single faces `(b, 3, size, size)`."""

    @torch.inference_mode()
    def restore(face: np.ndarray) -> np.ndarray:
        large = cv2.resize(face, (size, size), interpolation=cv2.INTER_LINEAR)
        return to_images(network(to_tensor(large, device, torch.float32)[None])[0])

    return restore


def _frame_by_frame(network: Callable[[np.ndarray], np.ndarray]) -> Restore:
    return lambda clip: np.stack([network(face) for face in clip.frames])


def _folder(path: Path) -> Restore:
    if not path.is_dir():
        raise ValueError(f"the folder {str(path)!r} with faces of another program does not exist.")
    return lambda clip: read_folder(path, clip)


def read_folder(path: Path, clip: DegradedClip) -> np.ndarray:
    """Read the faces that another program restored in a clip.

    Args:
        path (`Path`): Folder with `LEVEL/CLIP.mp4` (or another type of video) or images in `LEVEL/CLIP/`, the layout
            of the exported clips.
        clip ([`DegradedClip`]): The clip; as many frames are read as it has.

    Returns:
        `np.ndarray` of shape `(t, h, w, 3)`

    Raises:
        ValueError: If there is not exactly one such video, or it has fewer frames than the clip.
    """
    level = path / clip.level
    found = [
        file
        for file in sorted(level.glob("*"))
        if (file.is_dir() and file.name == clip.name) or (is_video(file) and file.stem == clip.name)
    ]
    if len(found) != 1:
        raise ValueError(
            f"{level} must contain one video or folder of images named {clip.name!r}, found {len(found)}."
        )
    with open_video(found[0], clip.frame_rate) as reader:
        frames = [frame.image for _, frame in zip(clip.frames, reader, strict=False)]
    if len(frames) < len(clip.frames):
        raise ValueError(f"{found[0]} has {len(frames)} frames, the clip has {len(clip.frames)}: restore all of them.")
    return np.stack(frames)
