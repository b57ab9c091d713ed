"""The components of the pipeline, and the parts that restore a video, connected in the order of the data."""

from typing import TYPE_CHECKING, Any, ClassVar

import torch

from ..downloads.options import DownloadOptions
from ..faces.detector import FaceDetector
from ..faces.follower import HORIZONS, FaceFollower
from ..faces.identity import FaceIdentity
from ..faces.yunet import YuNet
from ..models.flow.dis import DISFlow
from ..models.flow.gmflow import GMFlow
from ..models.kalman import KalmanGainNetwork
from ..models.recursion import KalmanRecursion
from ..models.vq import KeepVQModel
from ..options import AUTO, RestorationOptions
from ..restoration.background import describe_background
from ..restoration.compositor import FaceCompositor
from ..restoration.face_restorer import FaceRestorer
from ..restoration.fingerprint import fingerprint
from ..restoration.gains import choose_gains
from ..restoration.stream import FaceStream
from ..version import __version__
from .saved_pipeline import SavedPipeline


if TYPE_CHECKING:
    from transformers import SegformerForSemanticSegmentation

# Faces in one batch of the recursion; bounds memory.
BATCH_SIZE = 8
# Frames of two windows are in memory.
MAX_GAIN_WINDOW = 1000


class ConnectedPipeline(SavedPipeline):
    """The part of [`KeepPipeline`] that holds the components."""

    model_cpu_offload_seq = "detector->flow->kalman->vq->parser->identity"
    _optional_components: ClassVar = ["detector", "flow", "identity", "kalman", "parser"]

    # Set by `register_modules`
    vq: KeepVQModel
    kalman: KalmanGainNetwork | None
    flow: GMFlow | DISFlow | None
    detector: FaceDetector | YuNet | None
    parser: "SegformerForSemanticSegmentation | None"
    identity: FaceIdentity | None

    def __init__(
        self,
        vq: KeepVQModel,
        kalman: KalmanGainNetwork | None = None,
        flow: GMFlow | DISFlow | None = None,
        detector: FaceDetector | YuNet | None = None,
        parser: torch.nn.Module | None = None,
        identity: FaceIdentity | None = None,
        gain_window: int = 20,
        fidelity: float | None = None,
        release: str | None = None,
        checkpoint_sha256: str | None = None,
        licence: str | None = None,
    ) -> None:
        super().__init__()
        if vq is None:  # as `from_pretrained(name, vq=None)` passes it
            raise ValueError("vq must be a KeepVQModel, got None: a pipeline cannot restore faces without it.")
        if (kalman is None) != (flow is None):
            raise ValueError("The gain network and the flow network go together: pass both or neither.")
        if not isinstance(gain_window, int) or not 1 <= gain_window <= MAX_GAIN_WINDOW:
            raise ValueError(f"gain_window must be from 1 to {MAX_GAIN_WINDOW} frames, got {gain_window!r}.")
        fidelity = RestorationOptions(fidelity=fidelity).fidelity  # checked, and a plain number
        if fidelity is None:
            # KEEP always uses the features of the crop in full; 0.5 is CodeFormer's own default.
            fidelity = 0.5 if kalman is None else 1.0
        self.register_modules(vq=vq, kalman=kalman, flow=flow, detector=detector, parser=parser, identity=identity)
        self.register_to_config(
            gain_window=gain_window,
            fidelity=fidelity,
            release=release,
            checkpoint_sha256=checkpoint_sha256,
            licence=licence,
        )
        self._yunet: YuNet | None = None
        self._downloads = DownloadOptions()
        self.is_compiled = False

    def compile(self, **kwargs: Any) -> None:
        """Compile the networks that work frame by frame, which takes minutes before the first frame.

        A direct path is not compiled: at fidelity 1, a model that has one is as fast as before.

        This is meant for GPUs; on the CPU that was measured it does not pay (benchmarks/results_speed.md). Each face
        then goes through these networks on its own, so that they are not compiled again when the number of faces
        changes. Results are equal up to rounding.

        Args:
            kwargs: As for `torch.compile`, for example `mode="reduce-overhead"` for CUDA graphs. `dynamic` is always
                `False`: features are chosen by their sizes, which a graph for any size does not know.
        """
        vq = self.vq
        for network in (vq.hq_encoder, *vq.feature_update.values(), vq.code_transformer, vq.decoder):
            if network is not None:
                network.compile(**{"fullgraph": True} | kwargs | {"dynamic": False})
        self.is_compiled = True

    def face_detector(self) -> FaceDetector | YuNet:
        """Return the detector of the pipeline, or YuNet from the Hub if it has none."""
        if self.detector is not None:
            return self.detector
        if self._yunet is None:
            self._yunet = YuNet.from_pretrained(**vars(self._downloads))
        self._yunet.to(self._execution_device)
        return self._yunet

    def fingerprint(self) -> str | None:
        """Return 8 hexadecimal digits that differ between pipelines with different weights."""
        return fingerprint(self.vq, self.kalman, self.flow, self.detector, self.parser)

    def _open_stream(self, options: RestorationOptions, frame_rate: float, is_exact: bool = False) -> FaceStream:
        """Connect the parts, in the order of the data."""
        follower = FaceFollower(
            None if options.aligned else self.face_detector(),
            frame_rate,
            options.faces,
            options.min_face_size,
            find_cuts=options.gain_mode != "official",  # the published script detects no scene cuts
            horizon=HORIZONS[options.latency],
            identity=self.identity,
        )
        recursion = KalmanRecursion(self.vq, self.kalman, self.flow)
        fidelity = self._fidelity(options)
        compositor = FaceCompositor(
            aligned=options.aligned,
            strength=options.fixed_strength(),
            person_strength={number: options.fixed_strength(number) for number in options.person_strength or ()},
            upscale=options.upscale,
            background=options.background,
            parser=self.parser,
            frame_rate=frame_rate,
            adds_corrections=not recursion.uses_codes(fidelity),
        )
        restorer = FaceRestorer(
            recursion,
            compositor,
            gains=choose_gains(
                self.kalman if recursion.uses_codes(fidelity) else None,
                self.config.gain_window,
                options,
            ),
            fidelity=fidelity,
            aligned=options.aligned,
            device=self._execution_device,
            batch_size=1 if self.is_compiled else BATCH_SIZE,
            is_exact=is_exact,
        )
        return FaceStream(follower, restorer, self.identity, close=self.maybe_free_model_hooks)

    def _fidelity(self, options: RestorationOptions) -> float:
        return self.config.fidelity if options.fidelity is None else options.fidelity

    def _describe_job(self, options: RestorationOptions, frame_rate: float) -> dict[str, Any]:
        """Everything that the result depends on, by name: a run that is resumed must have the same.

        Different options with the same result have one description.
        """
        strengths = {number: _describe_strength(options, number) for number in options.person_strength or ()}
        return vars(options) | {
            "faces": options.faces if isinstance(options.faces, str) else sorted(options.faces),
            "fidelity": self._fidelity(options),
            "strength": _describe_strength(options),
            "person_strength": strengths or None,
            "background": describe_background(options.background),
            "frame_rate": frame_rate,
            "gain_window": self.config.gain_window,
            "weights": self.fingerprint(),
            "weights of identity": fingerprint(self.identity),
            "compiled": self.is_compiled,
            "version of keep_hf": __version__,
        }


def _describe_strength(options: RestorationOptions, person: int | None = None) -> float | str:
    fixed = options.fixed_strength(person)
    return AUTO if fixed is None else fixed
