"""Train the refinement network of a face detector, which places landmarks exactly and rejects false faces.

    accelerate launch -m training.train_refinement --data portraits/ videos/ --output runs/refinement --steps 6000 \\
        --detector runs/detector/detector --teacher face_detection_yunet_2023mar.onnx --errors errors/

The labels are those of `train_detector` (teacher_labels.py); the examples are close-ups of degraded faces that are
aligned by landmarks with an error (landmark_examples.py). The other networks of the detector are not changed.
mine_errors.py collects the images for `--errors`.
"""

import copy
from pathlib import Path

import torch
from torch import nn

from keep_hf import FaceDetector
from keep_hf.video.media_files import find_images

from .data.images import read_image
from .data.landmark_examples import EYE_DISTANCE, LandmarkExamples
from .data.teacher_labels import label_all
from .loop.config import Parser, TrainerConfig, add_arguments, positive
from .loop.stage import Batch, Stage, StageOutput
from .loop.trainer import Trainer
from .preparation.detectors import load_detector
from .train_detector import close_up_loss


LANDMARK_WEIGHT = 20.0
# For the mean logit of search and close-ups; chosen on degraded portraits that were held out.
REFINED_THRESHOLDS = {"search_threshold": 0.4, "threshold": 0.88}


class RefinementStage(Stage):
    """Trains the landmarks and the scores of aligned close-ups.

    Args:
        network (`nn.Module`): From `close_up_network`.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, batch: Batch) -> StageOutput:
        output = self.network(batch["close_up"])
        check_loss, landmark_loss = close_up_loss(output, batch["is_face"], batch["landmarks"])
        error = (output[:, :10].unflatten(-1, (5, 2)) - batch["landmarks"]).norm(dim=-1).mean(dim=1) / EYE_DISTANCE
        figures = {
            "check loss": check_loss,
            "landmark error": (error * batch["is_face"]).sum() / batch["is_face"].sum().clamp(min=1),
        }
        return StageOutput(check_loss + LANDMARK_WEIGHT * landmark_loss, figures, {})


def add_refinement(detector: FaceDetector) -> FaceDetector:
    """Return a detector with the same weights and a refinement network.

    A new refinement network starts as a copy of the close-up network, whose task is nearly the same. The thresholds
    are those of the score with three networks.
    """
    if detector.config["refinement"]:
        return detector
    # Names that start with "_" are about the file.
    settings = {name: value for name, value in detector.config.items() if not name.startswith("_")}
    extended = FaceDetector(**{**settings, "refinement": True, **REFINED_THRESHOLDS})
    weights = detector.state_dict()
    copies = {name.replace("close_up", "refinement"): value for name, value in weights.items() if "close_up" in name}
    extended.load_state_dict(weights | copies)
    return extended.eval()


def build_parser() -> Parser:
    parser = Parser(__doc__)
    add = parser.add_argument
    add("--detector", required=True, help="the detector to extend: a folder, a Hub id or a built-in name")
    add("--subfolder", help="folder of the detector in that of a pipeline")
    add("--teacher", required=True, help="YuNet: an .onnx file or a Hub repository; or a folder of a detector")
    add("--errors", type=Path, help="folder of images without a face, from mine_errors.py")
    add("--frames-per-video", type=positive, default=32, help="frames of a video that are labelled")
    add_arguments(parser)
    parser.set_defaults(batch_size=48, learning_rate=1e-3, weight_decay=1e-4, max_gradient_norm=5.0)
    return parser


def main(arguments: list[str] | None = None) -> None:
    args = build_parser().parse_args(arguments)
    config = TrainerConfig.from_args(args)
    detector = add_refinement(FaceDetector.from_pretrained(args.detector, subfolder=args.subfolder))
    assert detector.refinement_network is not None
    teacher = load_detector(args.teacher)
    errors = [read_image(path) for path in find_images(args.errors)] if args.errors else []

    def make_examples(sources: list[str], seed: int) -> LandmarkExamples:
        portraits = label_all(sources, teacher, args.frames_per_video)
        return LandmarkExamples(portraits, errors, detector.config["close_up_size"], seed)

    Trainer(
        config,
        RefinementStage(detector.refinement_network),
        make_examples(args.data, args.seed),
        save_models=lambda: copy.deepcopy(detector).to(torch.float16).save_pretrained(config.output / "detector"),
        validation_set=make_examples(args.validation, seed=1) if args.validation else None,
    ).run()


if __name__ == "__main__":
    main()
