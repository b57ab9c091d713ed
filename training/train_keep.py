"""Stage 3: the fusion blocks learn what the crop and the previous frame add to the codes.

    accelerate launch -m training.train_keep --vq runs/codes/vq --kalman runs/codes/kalman --flow runs/flow/flow \
        --detector runs/detector --data faces/ --output runs/keep ...

Only SFT, the update of its features by the prediction, and cross-frame attention learn.  Losses: of the picture (see
losses.py); the change of the decoder's features from frame to frame along the flow of the CLEAR clip (temporal
Charbonnier) and, if asked for, that of the error of the picture; an adversary that judges patches over three frames
and more.  Fidelity is drawn from [0, 1] in a quarter of the clips, so that every setting has been practised.  The
result is a pipeline for `from_pretrained`.
"""

import torch
import torch.nn.functional as F
from torch import nn

from keep_hf import FaceDetector, GMFlow, KalmanGainNetwork, KalmanRecursion, KeepPipeline, KeepVQModel
from keep_hf.degrade import TRAINING
from keep_hf.models.flow.warp import warp

from .adversary import Adversary, PatchDiscriminator
from .data import FaceClips, open_validation
from .loop import Parser, add_arguments, positive, train
from .losses import PictureLoss, charbonnier, psnr
from .losses import add_arguments as add_loss_arguments


class FusionStage(nn.Module):
    def __init__(
        self,
        recursion: KalmanRecursion,
        picture_loss: PictureLoss,
        temporal_weight: float,
        steadiness_weight: float = 0.0,
        adversary: Adversary | None = None,
        single_frames: bool = False,
    ) -> None:
        super().__init__()
        self.recursion, self.picture_loss, self.adversary = recursion, picture_loss, adversary
        self.temporal_weight, self.steadiness_weight = temporal_weight, steadiness_weight
        self.temporal_size = max(recursion.vq.config.cross_frame_sizes)
        recursion.requires_grad_(False)
        recursion.vq.feature_fusion.requires_grad_(True)
        # A frame alone has none before it. In several processes what takes no part must not wait for a gradient.
        recursion.vq.feature_update.requires_grad_(not single_frames)
        recursion.vq.cross_frame.requires_grad_(not single_frames)

    def forward(self, batch: dict[str, torch.Tensor]) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
        sharp, degraded = batch["sharp"], batch["degraded"]
        fidelity: float | torch.Tensor = 1.0
        if self.training:
            drawn = torch.rand(2, len(sharp), device=sharp.device)
            fidelity = torch.where(drawn[0] < 0.25, drawn[1], 1.0)
        output = self.recursion(degraded, fidelity=fidelity)
        made = output.frames
        losses = self.picture_loss(made, sharp)
        loss = losses["picture"]
        if (self.temporal_weight or self.steadiness_weight) and sharp.shape[1] > 1:
            with torch.no_grad():
                flows = self.recursion.flow.flow_between_frames(sharp)
            features = torch.stack([each[self.temporal_size] for each in output.features], dim=1)
            losses["temporal"] = change_along(flows, features)
            losses["steadiness"] = change_along(flows, made - sharp)
            loss = loss + self.temporal_weight * losses["temporal"] + self.steadiness_weight * losses["steadiness"]
        if self.training and self.adversary is not None and self.adversary.active:
            losses["adversary"] = self.adversary.generator_loss(made)
            loss = loss + self.adversary.weight * losses["adversary"]
        losses |= {"psnr": psnr(made, sharp), "psnr of the input": psnr(degraded, sharp)}
        return {"loss": loss, **losses}, {"degraded": degraded, "made": made, "sharp": sharp}


def change_along(flows: torch.Tensor, clips: torch.Tensor) -> torch.Tensor:
    """Charbonnier distance of each frame of clips `(b, t, c, h, w)` to the one before it, moved along the true motion
    `(b, t - 1, 2, height, width)`, which is scaled to the size of the clips.

    Of the decoder's features it is the paper's temporal loss.  Of the error of the picture it is zero where the made
    change is the true one: a face that is blurred steadily has nothing to lose by it, and one that flickers has.
    """
    size = clips.shape[-1]
    small = F.interpolate(flows.flatten(0, 1), size=(size, size), mode="bilinear", align_corners=False)
    previous, current = clips[:, :-1].flatten(0, 1).float(), clips[:, 1:].flatten(0, 1).float()
    return charbonnier(warp(previous, small * (size / flows.shape[-1])) - current)


def open_face_model(path: str, feature_update_sizes: list[int] | None, fusion_layers: int | None) -> KeepVQModel:
    """The face model of stage 2, with what is asked for and not in it: new blocks that change nothing yet."""
    vq = KeepVQModel.from_pretrained(path)
    sizes = vq.config.feature_update_sizes if feature_update_sizes is None else feature_update_sizes
    layers = vq.config.fusion_layers if fusion_layers is None else fusion_layers
    if not set(vq.config.feature_update_sizes) <= set(sizes) or layers < vq.config.fusion_layers:
        raise ValueError(
            f"{path} has trained blocks that would be lost: it updates features at {vq.config.feature_update_sizes} "
            f"and has {vq.config.fusion_layers} fusion layers. Ask for these and more, or for nothing."
        )
    larger = KeepVQModel.from_config(vq.config, feature_update_sizes=sizes, fusion_layers=layers)
    larger.load_state_dict(vq.state_dict(), strict=False)
    return larger


def main() -> None:
    parser = Parser(__doc__)
    parser.add_argument("--vq", required=True, help="face model of stage 2")
    parser.add_argument("--kalman", required=True, help="gain network of stage 2")
    parser.add_argument("--flow", required=True, help="trained flow network")
    parser.add_argument("--detector", help="trained face detector to put into the pipeline")
    parser.add_argument("--clip-length", type=positive, default=3)
    parser.add_argument(
        "--feature-update-sizes",
        type=positive,
        nargs="*",
        help="sizes at which the prediction corrects the features of the crop; those of --vq, if not given",
    )
    parser.add_argument("--fusion-layers", type=positive, help="residual blocks of a fusion block; as of --vq")
    parser.add_argument("--temporal-weight", type=float, default=0.1, help="of the change of features")
    parser.add_argument("--steadiness-weight", type=float, default=0.0, help="of the change of the error")
    add_loss_arguments(parser)
    add_arguments(parser, learning_rate=4e-4)
    args = parser.parse_args()

    torch.manual_seed(args.seed)
    vq = open_face_model(args.vq, args.feature_update_sizes, args.fusion_layers)
    kalman = KalmanGainNetwork.from_pretrained(args.kalman)
    flow = GMFlow.from_pretrained(args.flow)
    detector = FaceDetector.from_pretrained(args.detector) if args.detector else None
    settings = {"size": vq.config.sample_size, "clip_length": args.clip_length, "degradation": TRAINING}
    dataset = FaceClips(args.data, **settings, seed=args.seed)
    adversary = None
    if args.adversarial_weight:
        adversary = Adversary(PatchDiscriminator(over_time=True), args.adversarial_weight, args.adversarial_start)
    recursion, weights = KalmanRecursion(vq, kalman, flow), (args.temporal_weight, args.steadiness_weight)
    stage = FusionStage(recursion, PictureLoss(args), *weights, adversary, single_frames=args.clip_length == 1)
    pipe = KeepPipeline(vq=vq, kalman=kalman, flow=flow, detector=detector)
    train(
        args,
        stage,
        dataset,
        lambda: pipe.save_pretrained(args.output / "pipeline"),
        open_validation(args.validation, **settings),
    )


if __name__ == "__main__":
    main()
