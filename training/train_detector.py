"""Train the small face detector of keep_hf on images and videos of faces, with YuNet as the teacher.

    accelerate launch -m training.train_detector --data portraits/ videos/ --output runs/detector --steps 3000 \\
        --teacher face_detection_yunet_2023mar.onnx

No labels are needed: the teacher detects the face in every clean image, at several sizes and mirrored, and the medians
are the labels (teacher_labels.py). The detector is trained on the same faces small, rotated, side by side, grey, dark,
partly covered, blurred, noisy and compressed (detector_examples.py), and on images without a face (faceless.py,
drawings.py). mine_errors.py collects those in which a trained detector still finds one; `--errors` adds them.
"""

import copy
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

from keep_hf import FaceDetector
from keep_hf.video.media_files import find_images

from .data.detector_examples import DetectorExamples
from .data.images import read_image
from .data.teacher_labels import label_all
from .loop.config import Parser, TrainerConfig, add_arguments, positive
from .loop.stage import Batch, Stage, StageOutput
from .loop.trainer import Trainer
from .preparation.detectors import load_detector


BOX_WEIGHT, LANDMARK_WEIGHT, CHECK_WEIGHT = 5.0, 20.0, 2.0
# For the score of the close-up network alone; train_refinement.py has those for three networks.
THRESHOLDS = {"search_threshold": 0.5, "threshold": 0.9}


class DetectorStage(Stage):
    """Trains the search for boxes, and the check and the landmarks of close-ups.

    Args:
        detector ([`FaceDetector`]): The network.
    """

    def __init__(self, detector: FaceDetector) -> None:
        super().__init__()
        self.detector = detector

    def forward(self, batch: Batch) -> StageOutput:
        mosaics = batch["mosaic"]
        logits, boxes = self.detector(mosaics, return_dict=False)
        cells = self.detector.cells(*mosaics.shape[-2:]).to(mosaics.device)
        score_loss, box_loss = search_loss(logits, boxes, cells, batch["boxes"])
        check_loss, landmark_loss = close_up_loss(
            self.detector.close_up_network(batch["close_ups"].flatten(0, 1)),
            batch["is_face"].flatten(),
            batch["landmarks"].flatten(0, 1),
        )
        loss = score_loss + BOX_WEIGHT * box_loss + CHECK_WEIGHT * check_loss + LANDMARK_WEIGHT * landmark_loss
        figures = {
            "score loss": score_loss,
            "box loss": box_loss,
            "check loss": check_loss,
            "landmark loss": landmark_loss,
        }
        return StageOutput(loss, figures, {})


def close_up_loss(
    output: torch.Tensor, is_face: torch.Tensor, landmarks: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """The cross-entropy of the scores, and the distance of the landmarks where there is a face.

    Args:
        output (`torch.Tensor` of shape `(n, 11)`): Ten coordinates and a logit of each close-up.
        is_face (`torch.Tensor` of shape `(n,)`): 1 or 0.
        landmarks (`torch.Tensor` of shape `(n, 5, 2)`): From the centres of the close-ups, in sides of them.

    Returns:
        `tuple[torch.Tensor, torch.Tensor]`: two scalars.
    """
    check_loss = F.binary_cross_entropy_with_logits(output[:, 10], is_face)
    error = (output[:, :10].unflatten(-1, (5, 2)) - landmarks).abs().mean(dim=(1, 2))
    return check_loss, (error * is_face).sum() / is_face.sum().clamp(min=1)


def search_loss(
    logits: torch.Tensor, boxes: torch.Tensor, cells: torch.Tensor, true_boxes: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """The focal loss of the scores, and the distance of the boxes relative to the side of the face.

    Args:
        logits (`torch.Tensor` of shape `(b, n)`): Scores of the cells.
        boxes (`torch.Tensor` of shape `(b, n, 4)`): Boxes of the cells, in pixels.
        cells (`torch.Tensor` of shape `(n, 3)`): Centre (x, y) and stride of the cells, in pixels.
        true_boxes (`torch.Tensor` of shape `(b, m, 4)`): The faces; rows of zeros are ignored.

    Returns:
        `tuple[torch.Tensor, torch.Tensor]`: two scalars, means over the cells with a face.
    """
    stride = cells[:, 2:]
    low = torch.where(stride == 8, 0.0, 3.0 * stride)
    high = torch.where(stride == 32, torch.inf, 8.0 * stride)
    score_loss = box_loss = logits.sum() * 0
    count = 0
    for cell_logits, cell_boxes, truth in zip(logits, boxes, true_boxes, strict=True):
        truth = truth[truth[:, 2] > truth[:, 0]]
        target, weight = torch.zeros_like(cell_logits), torch.ones_like(cell_logits)
        if len(truth):
            side = (truth[:, 2:] - truth[:, :2]).prod(dim=1).sqrt()
            centre = (truth[:, 2:] + truth[:, :2]) / 2
            distance = (cells[:, None, :2] - centre).abs().amax(dim=-1)
            right_size = (side >= low) & (side < high)
            hit = right_size & (distance < torch.maximum(0.18 * side, 0.75 * stride))
            # Cells that are neither clearly on a face nor clearly off it do not count.
            close = (distance < 0.35 * side) & (side >= low / 1.5) & (side < high * 1.5)
            weight[close.any(dim=1)] = 0
            weight[hit.any(dim=1)] = target[hit.any(dim=1)] = 1
            cell = hit.any(dim=1).nonzero()[:, 0]
            nearest = torch.where(hit, distance, torch.inf).argmin(dim=1)[cell]
            count += len(cell)
            error = (cell_boxes[cell] - truth[nearest]).abs().mean(dim=1)
            box_loss = box_loss + (error / side[nearest]).sum()
        entropy = F.binary_cross_entropy_with_logits(cell_logits, target, reduction="none")
        score_loss = score_loss + (weight * (target - cell_logits.sigmoid()) ** 2 * entropy).sum()
    return score_loss / max(count, 1), box_loss / max(count, 1)


def build_parser() -> Parser:
    parser = Parser(__doc__)
    add = parser.add_argument
    add("--teacher", required=True, help="YuNet: an .onnx file or a Hub repository; or a folder of a detector")
    add("--initial", help="detector to start from, instead of a new one: a folder or a Hub id")
    add("--errors", type=Path, help="folder of images without a face, from mine_errors.py")
    add("--frames-per-video", type=positive, default=16, help="frames of a video that are labelled")
    add("--mosaic-size", type=positive, default=192, help="side of the mosaics in pixels, a multiple of 32")
    add("--close-ups", type=positive, default=3, help="close-ups per mosaic")
    add_arguments(parser)
    parser.set_defaults(batch_size=16, learning_rate=2e-3, weight_decay=1e-4, max_gradient_norm=5.0)
    return parser


def main(arguments: list[str] | None = None) -> None:
    parser = build_parser()
    args = parser.parse_args(arguments)
    if args.mosaic_size % 32:
        parser.error(f"--mosaic-size must be a multiple of 32, got {args.mosaic_size}")
    config = TrainerConfig.from_args(args)
    torch.manual_seed(args.seed)
    settings: dict[str, Any] = {"refinement": False, **THRESHOLDS}
    detector = FaceDetector.from_pretrained(args.initial, **settings) if args.initial else FaceDetector(**settings)
    teacher = load_detector(args.teacher)
    errors = [read_image(path) for path in find_images(args.errors)] if args.errors else []

    def make_examples(sources: list[str], seed: int) -> DetectorExamples:
        portraits = label_all(sources, teacher, args.frames_per_video)
        return DetectorExamples(
            portraits, errors, args.mosaic_size, args.close_ups, detector.config.close_up_size, seed
        )

    Trainer(
        config,
        DetectorStage(detector),
        make_examples(args.data, args.seed),
        save_models=lambda: copy.deepcopy(detector).to(torch.float16).save_pretrained(config.output / "detector"),
        validation_set=make_examples(args.validation, seed=1) if args.validation else None,
    ).run()


if __name__ == "__main__":
    main()
