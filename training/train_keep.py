"""Stage 3: the fusion blocks learn what the crop and the previous frame add to the codes.

    accelerate launch training/train_keep.py --vq runs/codes/vq --kalman runs/codes/kalman --flow runs/flow/flow \
        --detector runs/detector --data faces/ --output runs/keep

Only SFT and cross-frame attention learn.  Loss: L1 and gradients of the picture, and the change of the decoder's
features from frame to frame along the flow of the CLEAR clip (temporal Charbonnier).  Fidelity is drawn from [0, 1] in
a quarter of the clips, so that every setting has been practised.  The result is a pipeline for `from_pretrained`.
"""

import argparse

import torch
import torch.nn.functional as F
from data import FaceClips
from loop import add_arguments, train
from losses import charbonnier, image_loss
from torch import nn

from keep_hf import FaceDetector, GMFlow, KalmanGainNetwork, KalmanRecursion, KeepPipeline, KeepVQModel
from keep_hf.flow import warp


class FusionStage(nn.Module):
    def __init__(self, recursion: KalmanRecursion, temporal_weight: float) -> None:
        super().__init__()
        self.recursion = recursion
        self.temporal_weight = temporal_weight
        self.temporal_size = str(max(recursion.vq.config.cross_frame_sizes))
        recursion.requires_grad_(False)
        recursion.vq.feature_fusion.requires_grad_(True)
        recursion.vq.cross_frame.requires_grad_(True)

    def forward(self, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        sharp, degraded = batch["sharp"], batch["degraded"]
        drawn = torch.rand(2, len(sharp), device=sharp.device)
        fidelity = torch.where(drawn[0] < 0.25, drawn[1], 1.0)
        output = self.recursion(degraded, fidelity=fidelity)
        made, wanted = output.frames.flatten(0, 1).float(), sharp.flatten(0, 1)
        picture = image_loss(made, wanted)
        losses = {"picture": picture, "loss": picture}
        if self.temporal_weight and sharp.shape[1] > 1:
            temporal = self.temporal_loss(sharp, [features[self.temporal_size] for features in output.features])
            losses |= {"temporal": temporal, "loss": picture + self.temporal_weight * temporal}
        return losses | {"psnr": psnr(made, wanted), "psnr of the input": psnr(degraded.flatten(0, 1), wanted)}

    def temporal_loss(self, sharp: torch.Tensor, features: list[torch.Tensor]) -> torch.Tensor:
        """Charbonnier distance of each frame's features to those of the frame before, moved along the true motion."""
        with torch.no_grad():
            flows = self.recursion.flow.flow_between_frames(sharp).flatten(0, 1)
        size = features[0].shape[-1]
        flows = F.interpolate(flows, size=(size, size), mode="bilinear", align_corners=False) * size / sharp.shape[-1]
        previous = torch.stack(features[:-1], dim=1).flatten(0, 1).float()
        current = torch.stack(features[1:], dim=1).flatten(0, 1).float()
        return charbonnier(warp(previous, flows) - current)


def psnr(made: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    error = (made.detach().clamp(-1, 1) - wanted).square().mean(dim=(1, 2, 3)) / 4
    return -10 * error.log10().mean()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vq", required=True, help="face model of stage 2")
    parser.add_argument("--kalman", required=True, help="gain network of stage 2")
    parser.add_argument("--flow", required=True, help="trained flow network")
    parser.add_argument("--detector", help="trained face detector to put into the pipeline")
    parser.add_argument("--clip-length", type=int, default=3)
    parser.add_argument("--temporal-weight", type=float, default=0.1, help="0 spares a flow for every pair")
    add_arguments(parser, learning_rate=4e-4)
    args = parser.parse_args()
    if args.clip_length < 1:
        parser.error(f"--clip-length must be 1 or more, got {args.clip_length}")

    torch.manual_seed(args.seed)
    vq = KeepVQModel.from_pretrained(args.vq)
    kalman = KalmanGainNetwork.from_pretrained(args.kalman)
    flow = GMFlow.from_pretrained(args.flow)
    detector = FaceDetector.from_pretrained(args.detector) if args.detector else None
    dataset = FaceClips(args.data, vq.config.sample_size, args.clip_length, degraded=True, seed=args.seed)
    stage = FusionStage(KalmanRecursion(vq, kalman, flow), args.temporal_weight)
    pipe = KeepPipeline(vq=vq, kalman=kalman, flow=flow, detector=detector)
    train(args, stage, dataset, lambda: pipe.save_pretrained(args.output / "pipeline"))


if __name__ == "__main__":
    main()
