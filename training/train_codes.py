"""Stage 2: LQ encoder, code transformer and gain network learn to name the codes of the clear face.

    accelerate launch -m training.train_codes --vq runs/vq/vq --data faces/ --output runs/codes1 --clip-length 1 ...
    accelerate launch -m training.train_codes --vq runs/codes1/vq --kalman runs/codes1/kalman --flow runs/flow/flow \
        --data faces/ --output runs/codes --clip-length 4 ...

The first command teaches single frames, which is cheap; the second runs the recursion and so teaches the gain.  HQ
encoder, codebook, decoder and flow stay as they are.  Loss of the paper: mean square error of the observed latents
against the vectors of the true codes, and half the cross-entropy of the codes.
"""

import torch
import torch.nn.functional as F
from torch import nn

from keep_hf import GMFlow, KalmanGainNetwork, KalmanRecursion, KeepVQModel
from keep_hf.degrade import TRAINING

from .data import FaceClips, open_validation
from .loop import Parser, add_arguments, positive, train
from .losses import psnr
from .networks import KALMAN_NETWORKS


LABEL_SMOOTHING = 0.02


class CodesStage(nn.Module):
    def __init__(self, recursion: KalmanRecursion, single_frames: bool, fidelity: float = 0.0) -> None:
        super().__init__()
        self.recursion, self.fidelity = recursion, fidelity
        self.single_frames = single_frames  # nothing to predict from, so the gain learns nothing
        recursion.requires_grad_(False)
        recursion.vq.lq_encoder.requires_grad_(True)
        recursion.vq.code_transformer.requires_grad_(True)
        recursion.kalman.requires_grad_(not single_frames)

    def forward(self, batch: dict[str, torch.Tensor]) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
        sharp, degraded = batch["sharp"], batch["degraded"]
        vq = self.recursion.vq
        with torch.no_grad():
            true_latents, _ = vq.encode_hq(sharp.flatten(0, 1))
            true_codes = vq.nearest_codes(true_latents)
            true_vectors = vq.lookup(true_codes, true_latents)
        figures, pictures = {}, {}
        if self.single_frames:
            observed, _ = vq.encode_lq(degraded.flatten(0, 1))
            logits = vq.predict_codes(observed).float()
        else:
            output = self.recursion(degraded, fidelity=self.fidelity)
            observed, logits = output.observed.flatten(0, 1), output.logits.flatten(0, 1).float()
            figures = {"gain mean": output.gains[:, 1:].mean(), "gain std": output.gains[:, 1:].std()}
        codes = logits.argmax(-1)
        if not self.training:
            # How far the codes alone go, and the ceiling: the true ones.
            made, ceiling = (
                vq.decode(vq.lookup(each, observed))[0].unflatten(0, sharp.shape[:2]) for each in (codes, true_codes)
            )
            pictures = {"degraded": degraded, "made": made, "ceiling": ceiling, "sharp": sharp}
            figures["psnr of the true codes"] = psnr(ceiling, sharp)
            figures["distinct codes"] = torch.tensor(float(codes.unique().numel()))
        observation = F.mse_loss(observed.float(), true_vectors)
        cross_entropy = F.cross_entropy(logits.transpose(1, 2), true_codes, label_smoothing=LABEL_SMOOTHING)
        losses = {
            "loss": observation + 0.5 * cross_entropy,
            "observation": observation,
            "cross entropy": cross_entropy,
            "codes right": (codes == true_codes).float().mean(),
        }
        return losses | figures, pictures


def main() -> None:
    parser = Parser(__doc__)
    parser.add_argument("--vq", required=True, help="face model of stage 1, or of an earlier run of this stage")
    parser.add_argument("--kalman", help="gain network to go on with; a new one is made without it")
    parser.add_argument(
        "--network", choices=sorted(KALMAN_NETWORKS), default="tiny", help="size of a new gain network"
    )
    parser.add_argument("--flow", required=True, help="trained flow network")
    parser.add_argument("--clip-length", type=positive, default=4)
    parser.add_argument(
        "--fidelity", type=float, default=0.0, help="of the faces that are predicted from; 1 if stage 3 is trained"
    )
    add_arguments(parser, learning_rate=4e-4)
    args = parser.parse_args()
    if not 0 <= args.fidelity <= 1:
        parser.error(f"--fidelity must lie in 0 to 1, got {args.fidelity}")

    torch.manual_seed(args.seed)
    vq = KeepVQModel.from_pretrained(args.vq)
    if args.kalman:
        kalman = KalmanGainNetwork.from_pretrained(args.kalman)
    else:
        kalman = KalmanGainNetwork(**KALMAN_NETWORKS[args.network])
        # The published start: what is known of degraded faces begins as what is known of clear ones.
        vq.lq_encoder.load_state_dict(vq.hq_encoder.state_dict())
    flow = GMFlow.from_pretrained(args.flow)
    settings = {"size": vq.config.sample_size, "clip_length": args.clip_length, "degradation": TRAINING}
    dataset = FaceClips(args.data, **settings, seed=args.seed)

    def save() -> None:
        vq.save_pretrained(args.output / "vq")
        kalman.save_pretrained(args.output / "kalman")

    stage = CodesStage(KalmanRecursion(vq, kalman, flow), args.clip_length == 1, args.fidelity)
    train(args, stage, dataset, save, open_validation(args.validation, **settings))


if __name__ == "__main__":
    main()
