"""Stage 3: train the fusion blocks, which add to the codes what the crop and the previous frame show.

    accelerate launch -m training.train_keep --vq runs/codes/vq --kalman runs/codes/kalman --flow runs/flow/flow \\
        --detector runs/detector/detector --data faces/ --output runs/keep ...

Only SFT, the update of its features by the prediction, and cross-frame attention are trained. The loss is that of the
image (see losses.py); the change of the decoder's features along the flow of the SHARP clip (temporal Charbonnier);
optionally the change of the error of the image along this flow; and optionally an adversarial loss of patches over
several frames. In a quarter of the clips the fidelity is drawn from [0, 1], so that every setting is trained. The
result is a pipeline for `from_pretrained`.
"""

import torch
import torch.nn.functional as F

from keep_hf import FaceDetector, GMFlow, KalmanGainNetwork, KalmanRecursion, KeepPipeline, KeepVQModel
from keep_hf.degrade import TRAINING
from keep_hf.models.flow.warp import warp

from .data.face_clips import FaceClips, open_validation
from .loop.config import Parser, TrainerConfig, add_arguments, positive
from .loop.stage import Batch, Stage, StageOutput
from .loop.trainer import Trainer
from .losses.adversary import Adversary
from .losses.image_loss import ImageLoss, charbonnier, psnr
from .losses.image_loss import add_arguments as add_loss_arguments


class FusionStage(Stage):
    """Trains SFT, the feature update and cross-frame attention.

    Args:
        recursion ([`KalmanRecursion`]): The three networks.
        image_loss ([`ImageLoss`]): Distance of restored from sharp clips.
        temporal_weight (`float`): Weight of the change of the decoder's features along the flow.
        steadiness_weight (`float`, *optional*, defaults to 0.0): Weight of the change of the error along the flow.
        adversary ([`Adversary`], *optional*): The discriminator.
        single_frames (`bool`, *optional*, defaults to `False`): Whether clips have one frame, and only SFT is trained.
    """

    def __init__(
        self,
        recursion: KalmanRecursion,
        image_loss: ImageLoss,
        temporal_weight: float,
        steadiness_weight: float = 0.0,
        adversary: Adversary | None = None,
        single_frames: bool = False,
    ) -> None:
        super().__init__()
        self.recursion, self.image_loss, self.adversary = recursion, image_loss, adversary
        self.temporal_weight, self.steadiness_weight = temporal_weight, steadiness_weight
        self.temporal_size = max(recursion.vq.config.cross_frame_sizes)
        recursion.requires_grad_(False)
        recursion.vq.feature_fusion.requires_grad_(True)
        # A single frame has no previous one, and with several processes, a parameter that is trained must be used.
        recursion.vq.feature_update.requires_grad_(not single_frames)
        recursion.vq.cross_frame.requires_grad_(not single_frames)

    def forward(self, batch: Batch) -> StageOutput:
        sharp, degraded = batch["sharp"], batch["degraded"]
        fidelity: float | torch.Tensor = 1.0
        if self.training:
            drawn = torch.rand(2, len(sharp), device=sharp.device)
            fidelity = torch.where(drawn[0] < 0.25, drawn[1], 1.0)
        output = self.recursion(degraded, fidelity=fidelity)
        restored = output.frames
        figures = self.image_loss(restored, sharp)
        loss = figures["image"]
        if (self.temporal_weight or self.steadiness_weight) and sharp.shape[1] > 1:
            assert self.recursion.flow is not None
            with torch.no_grad():
                flows = self.recursion.flow.flow_between_frames(sharp)
            features = torch.stack([each[self.temporal_size] for each in output.features], dim=1)
            figures["temporal"] = change_along(flows, features)
            figures["steadiness"] = change_along(flows, restored - sharp)
            loss = loss + self.temporal_weight * figures["temporal"] + self.steadiness_weight * figures["steadiness"]
        if self.training and self.adversary is not None and self.adversary.active:
            figures["adversarial"] = self.adversary.generator_loss(restored)
            loss = loss + self.adversary.weight * figures["adversarial"]
        figures |= {"psnr": psnr(restored, sharp), "psnr of the input": psnr(degraded, sharp)}
        return StageOutput(loss, figures, {"degraded": degraded, "restored": restored, "sharp": sharp})


def change_along(flows: torch.Tensor, clips: torch.Tensor) -> torch.Tensor:
    """Charbonnier distance of each frame from the previous one, warped by the true motion.

    For the decoder's features this is the temporal loss of the paper. For the error of the restored frames it is zero
    if the error moves with the face: steady blur has no loss, flicker has.

    Args:
        flows (`torch.Tensor` of shape `(b, t - 1, 2, height, width)`): From each frame to the previous one, in pixels;
            resized to the size of the clips.
        clips (`torch.Tensor` of shape `(b, t, c, h, w)`): Features or errors.

    Returns:
        `torch.Tensor`: a scalar.
    """
    size = clips.shape[-1]
    small = F.interpolate(flows.flatten(0, 1), size=(size, size), mode="bilinear", align_corners=False)
    previous, current = clips[:, :-1].flatten(0, 1).float(), clips[:, 1:].flatten(0, 1).float()
    return charbonnier(warp(previous, small * (size / flows.shape[-1])) - current)


def open_face_model(path: str, feature_update_sizes: list[int] | None, fusion_layers: int | None) -> KeepVQModel:
    """Load the face model of stage 2, and add the blocks that are requested and that it lacks.

    New blocks change nothing until they are trained.

    Args:
        path (`str`): A folder or a repository on the Hub.
        feature_update_sizes (`list[int]`, *optional*): Sizes of the feature update; those of the model by default.
        fusion_layers (`int`, *optional*): Residual blocks of a fusion block; those of the model by default.

    Raises:
        ValueError: If the model has trained blocks that are not requested.
    """
    vq = KeepVQModel.from_pretrained(path)
    sizes = vq.config.feature_update_sizes if feature_update_sizes is None else feature_update_sizes
    layers = vq.config.fusion_layers if fusion_layers is None else fusion_layers
    if not set(vq.config.feature_update_sizes) <= set(sizes) or layers < vq.config.fusion_layers:
        raise ValueError(
            f"{path} has trained blocks that would be lost: it updates features at {vq.config.feature_update_sizes} "
            f"and has {vq.config.fusion_layers} fusion layers. Request at least these, or leave the options out."
        )
    larger = KeepVQModel.from_config(vq.config, feature_update_sizes=sizes, fusion_layers=layers)
    larger.load_state_dict(vq.state_dict(), strict=False)
    return larger


def build_parser() -> Parser:
    parser = Parser(__doc__)
    add = parser.add_argument
    add("--vq", required=True, help="face model of stage 2")
    add("--kalman", required=True, help="gain network of stage 2")
    add("--flow", required=True, help="trained flow network")
    add("--detector", help="trained face detector to put into the pipeline")
    add("--clip-length", type=positive, default=3, help="frames per clip; with 1, only SFT is trained")
    add(
        "--feature-update-sizes",
        type=positive,
        nargs="*",
        help="sizes at which the prediction corrects the features of the crop (default: those of --vq)",
    )
    add("--fusion-layers", type=positive, help="residual blocks of a fusion block (default: those of --vq)")
    add("--temporal-weight", type=float, default=0.1, help="weight of the change of features along the flow")
    add("--steadiness-weight", type=float, default=0.0, help="weight of the change of the error along the flow")
    add_loss_arguments(parser)
    add_arguments(parser)
    return parser


def main(arguments: list[str] | None = None) -> None:
    args = build_parser().parse_args(arguments)
    config = TrainerConfig.from_args(args)
    torch.manual_seed(args.seed)
    vq = open_face_model(args.vq, args.feature_update_sizes, args.fusion_layers)
    kalman = KalmanGainNetwork.from_pretrained(args.kalman)
    flow = GMFlow.from_pretrained(args.flow)
    detector = FaceDetector.from_pretrained(args.detector) if args.detector else None
    pipe = KeepPipeline(vq=vq, kalman=kalman, flow=flow, detector=detector)
    stage = FusionStage(
        KalmanRecursion(vq, kalman, flow),
        ImageLoss.from_args(args),
        args.temporal_weight,
        args.steadiness_weight,
        Adversary.from_args(args, over_time=True),
        single_frames=args.clip_length == 1,
    )
    size = vq.config.sample_size
    Trainer(
        config,
        stage,
        FaceClips(args.data, size, args.clip_length, TRAINING, seed=args.seed),
        save_models=lambda: pipe.save_pretrained(config.output / "pipeline"),
        validation_set=open_validation(args.validation, size, args.clip_length, TRAINING),
    ).run()


if __name__ == "__main__":
    main()
