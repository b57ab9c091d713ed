"""The rows of the table: KEEP, KEEP without one of its parts, other networks, and what other programs have made.

Every method takes a degraded clip of aligned faces and gives as many faces, of a size of its own.  The variants are
built from the classes of the package as they are; nothing is trained anew without the part that is missing, which
favours the whole network.
"""

from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from keep_hf import KeepPipeline, KeepVQModel
from keep_hf.evaluation.dis_flow import DISFlow
from keep_hf.faces.alignment import TEMPLATE_SIZE
from keep_hf.models.checkpoint_files import load_checkpoint
from keep_hf.video.media_files import is_video
from keep_hf.video.open import open_video
from keep_hf.video.pixels import to_images, to_tensor

from .plain_unet import PlainUNet


NAMES = ("bicubic", "keep", "official", "no-kfn", "no-update", "no-cfa", "per-frame", "dis", "codeformer")


@dataclass(frozen=True)
class DegradedClip:
    """What a method is given.

    Args:
        name (`str`): Of the clip.
        level (`str`): Of the degradation.
        frames (`np.ndarray` of shape `(t, h, w, 3)`): Degraded aligned faces, RGB, uint8.
        frame_rate (`float`): Frames per second.
    """

    name: str
    level: str
    frames: np.ndarray
    frame_rate: float


@dataclass(frozen=True)
class Method:
    """A row of the table.

    Args:
        name (`str`): In the table, and of the files with its results.
        source (`str`): What its faces depend on beside the name: a number for the weights, a file or a folder.
        restore (`Callable[[DegradedClip], np.ndarray]`): Gives faces `(t, size, size, 3)`, RGB, uint8, of any size.
    """

    name: str
    source: str
    restore: Callable[[DegradedClip], np.ndarray]


def load_methods(
    specifications: list[str], pipe: KeepPipeline, fidelity: float | None = None, codeformer: str | Path | None = None
) -> list[Method]:
    """Make the methods that were asked for.

    Args:
        specifications (`list[str]`): Each one of `NAMES`, `spandrel:FILE` (a face restorer that spandrel loads),
            `unet:FOLDER` (see plain_unet.py) or `folder:NAME=PATH` (faces made by another program, see
            [`read_folder`]).
        pipe ([`KeepPipeline`]): KEEP; its networks are shared by the methods.
        fidelity (`float`, *optional*): Of the methods that are KEEP or a part of it.
        codeformer (`str` or `Path`, *optional*): Converted checkpoint of CodeFormer, for `codeformer`.

    Returns:
        `list[Method]`: In the same order.

    Raises:
        ValueError: If there is no such method, two have one name, or a model or folder is missing or of another kind.
    """
    if pipe.kalman is None:
        raise ValueError("the model is a single-frame one, without gain network: pass KEEP, and it as codeformer.")
    fidelity = pipe.config.fidelity if fidelity is None else fidelity
    source = f"{pipe.fingerprint()}, fidelity {fidelity}"
    methods = []
    for specification in specifications:
        kind, _, argument = specification.partition(":")
        if kind == "spandrel" and argument:
            network = load_face_restorer(argument, pipe.device)
            methods.append(Method(Path(argument).stem, argument, _each_alone(network)))
        elif kind == "unet" and argument:
            unet = PlainUNet.from_pretrained(argument).to(pipe.device)
            methods.append(Method("unet", argument, _each_alone(_unet(unet))))
        elif kind == "folder" and "=" in argument:
            name, _, path = argument.partition("=")
            methods.append(Method(name, path, _from_folder(Path(path))))
        elif specification == "bicubic":
            # What is smaller than the size of the comparison is enlarged to it by cubic interpolation.
            methods.append(Method("bicubic", "", lambda clip: clip.frames))
        elif specification == "codeformer":
            if codeformer is None:
                raise ValueError("codeformer needs its weights: name a folder made by `keep-hf convert`.")
            other = KeepPipeline.from_pretrained(codeformer).to(pipe.device)
            if other.kalman is not None:
                raise ValueError(f"{codeformer} is a KEEP model, with gain network, not CodeFormer.")
            methods.append(Method("codeformer", other.fingerprint(), _pipeline(other, other.config.fidelity)))
        elif specification in NAMES:
            methods.append(Method(specification, source, _variant(specification, pipe, fidelity)))
        else:
            raise ValueError(
                f"there is no method {specification!r}: pass {', '.join(NAMES)}, spandrel:FILE, "
                "unet:FOLDER or folder:NAME=PATH."
            )
    names = [method.name for method in methods]
    for name in names:
        if names.count(name) > 1 or name in ("", "truth") or Path(name).name != name:
            raise ValueError(f"methods must have names of their own that can be those of files, got {names}.")
    return methods


def load_face_restorer(model_file: str | Path, device: torch.device) -> Callable[[np.ndarray], np.ndarray]:
    """Load a network that restores single aligned faces, as GFPGAN or RestoreFormer.

    Args:
        model_file (`str` or `Path`): `.pth` or `.safetensors` file of a network that spandrel knows; no code of the
            file runs.
        device (`torch.device`): Where the network runs.

    Returns:
        `Callable[[np.ndarray], np.ndarray]`: From a face to the restored one, both RGB, uint8; it is given to the
        network at 512 pixels, enlarged linearly.

    Raises:
        ValueError: If spandrel is not installed, or the file is missing or holds no such network.
    """
    if find_spec("spandrel") is None:
        raise ValueError("spandrel:FILE needs spandrel, which is not installed: pip install spandrel.")
    weights = load_checkpoint(model_file)
    import spandrel

    try:
        model = spandrel.ModelLoader().load_from_state_dict(spandrel.canonicalize_state_dict(weights))
    except (spandrel.UnsupportedModelError, RuntimeError) as error:
        raise ValueError(f"{model_file} holds no network that spandrel {spandrel.__version__} knows.") from error
    if not isinstance(model, spandrel.ImageModelDescriptor) or model.purpose != "FaceSR":
        raise ValueError(f"{model_file} is a {model.architecture.name}, which does not restore faces.")
    return FaceRestorerNetwork(model.to(device).eval())


class FaceRestorerNetwork:
    """A network `(1, 3, 512, 512)` -> `(1, 3, size, size)`, RGB from 0 to 1, as a function of pictures.

    Args:
        model (`spandrel.ImageModelDescriptor`): The network, with the attribute `device`.
    """

    def __init__(self, model: Any) -> None:
        self.model = model

    @torch.inference_mode()
    def __call__(self, face: np.ndarray) -> np.ndarray:
        large = cv2.resize(face, (TEMPLATE_SIZE, TEMPLATE_SIZE), interpolation=cv2.INTER_LINEAR)
        image = to_tensor(large, self.model.device)[None]
        return to_images(self.model((image + 1) / 2)[0] * 2 - 1)


def read_folder(path: Path, clip: DegradedClip) -> np.ndarray:
    """Read what another program has made of a clip.

    Args:
        path (`Path`): Folder with `LEVEL/CLIP.mp4` (or another kind of video) or pictures in `LEVEL/CLIP/`: the
            layout in which the degraded clips are exported.
        clip ([`DegradedClip`]): The clip; as many frames are taken as it has.

    Returns:
        `np.ndarray` of shape `(t, h, w, 3)`

    Raises:
        ValueError: If there is not one such video, or it has fewer frames than the clip.
    """
    level = path / clip.level
    found = [
        file
        for file in sorted(level.glob("*"))
        if (file.is_dir() and file.name == clip.name) or (is_video(file) and file.stem == clip.name)
    ]
    if len(found) != 1:
        raise ValueError(f"{level} must hold one video or folder of pictures named {clip.name!r}, found {len(found)}.")
    with open_video(found[0], clip.frame_rate) as reader:
        frames = [frame.image for _, frame in zip(clip.frames, reader, strict=False)]
    if len(frames) < len(clip.frames):
        raise ValueError(f"{found[0]} has {len(frames)} frames, the clip {len(clip.frames)}: make them all.")
    return np.stack(frames)


class ClipDISFlow(DISFlow):
    """OpenCV's DIS as the flow of a pipeline, in place of GMFlow."""

    def flow_between_frames(self, frames: torch.Tensor, batch_size: int = 1) -> torch.Tensor:
        """Clips `(b, t, 3, h, w)` -> flows `(b, t - 1, 2, h, w)`, each from a frame back to the one before it.

        Pairs go one by one, whatever `batch_size` allows.
        """
        b, t, _, h, w = frames.shape
        shown = frames.float().cpu()
        flows = [self(shown[i : i + 1, k + 1], shown[i : i + 1, k]) for i in range(b) for k in range(t - 1)]
        return torch.cat([torch.zeros(0, 2, h, w), *flows]).view(b, t - 1, 2, h, w).to(frames.device)


def _variant(name: str, pipe: KeepPipeline, fidelity: float) -> Callable[[DegradedClip], np.ndarray]:
    """KEEP, or KEEP with something left out or exchanged."""
    if name in ("keep", "official"):
        return _pipeline(pipe, fidelity, gain_mode="official" if name == "official" else "stream")
    vq = pipe.vq
    if name in ("no-cfa", "per-frame"):
        vq = _without(vq, "cross_frame")
    if name == "no-update":
        # The filter works on the latents alone, as published.
        vq = _without(vq, "feature_update")
    if name in ("no-kfn", "per-frame"):
        # Without gain network nothing is predicted: the observation alone is decoded.
        return _pipeline(KeepPipeline(vq=vq), fidelity)
    flow = ClipDISFlow() if name == "dis" else pipe.flow
    window = pipe.config.gain_window
    return _pipeline(KeepPipeline(vq=vq, kalman=pipe.kalman, flow=flow, gain_window=window), fidelity)


def _without(vq: KeepVQModel, part: str) -> KeepVQModel:
    """The same face model without its `cross_frame` attention, or without its `feature_update`."""
    rest = KeepVQModel.from_config(vq.config, **{f"{part}_sizes": ()})
    rest.load_state_dict({name: value for name, value in vq.state_dict().items() if not name.startswith(f"{part}.")})
    # ModelMixin.to warns of modules to keep in float32; there are none.
    return torch.nn.Module.to(rest, vq.device, vq.dtype).eval()


def _pipeline(pipe: KeepPipeline, fidelity: float, gain_mode: str = "stream") -> Callable[[DegradedClip], np.ndarray]:
    pipe.set_progress_bar_config(disable=True)

    def restore(clip: DegradedClip) -> np.ndarray:
        with pipe.stream(aligned=True, fidelity=fidelity, gain_mode=gain_mode, frame_rate=clip.frame_rate) as stream:
            return np.stack([done.image for done in stream.restore(clip.frames)])

    return restore


def _unet(unet: PlainUNet) -> Callable[[np.ndarray], np.ndarray]:
    size = unet.config.sample_size

    @torch.inference_mode()
    def restore(face: np.ndarray) -> np.ndarray:
        large = cv2.resize(face, (size, size), interpolation=cv2.INTER_LINEAR)
        return to_images(unet(to_tensor(large, unet.device, unet.dtype)[None])[0])

    return restore


def _each_alone(network: Callable[[np.ndarray], np.ndarray]) -> Callable[[DegradedClip], np.ndarray]:
    return lambda clip: np.stack([network(face) for face in clip.frames])


def _from_folder(path: Path) -> Callable[[DegradedClip], np.ndarray]:
    if not path.is_dir():
        raise ValueError(f"there is no folder {str(path)!r} with faces made by another program.")
    return lambda clip: read_folder(path, clip)
