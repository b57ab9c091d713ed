"""Stage 2: train LQ encoder, code transformer and gain network to predict the codes of the sharp face.

    accelerate launch -m training.train_codes --vq runs/vq/vq --data faces/ --output runs/codes1 --clip-length 1 ...
    accelerate launch -m training.train_codes --vq runs/codes1/vq --kalman runs/codes1/kalman --flow runs/flow/flow \\
        --data faces/ --output runs/codes --clip-length 4 ...

The first command trains on single frames, which is cheap. The second runs the recursion, so that the gain network
learns too. HQ encoder, codebook, decoder and flow network stay unchanged. The loss is that of the paper: the mean
square error of the observed latents from the vectors of the true codes, and half the cross-entropy of the codes.
"""

import torch
import torch.nn.functional as F

from keep_hf import GMFlow, KalmanGainNetwork, KalmanRecursion, KeepVQModel
from keep_hf.degrade import TRAINING

from .data.face_clips import FaceClips, open_validation
from .loop.config import Parser, TrainerConfig, add_arguments, positive
from .loop.stage import Batch, Stage, StageOutput
from .loop.trainer import Trainer
from .losses.image_loss import psnr
from .networks import KALMAN_NETWORKS


LABEL_SMOOTHING = 0.02


class CodesStage(Stage):
    """Trains LQ encoder, code transformer and gain network.

    Args:
        recursion ([`KalmanRecursion`]): The three networks.
        single_frames (`bool`): Whether clips have one frame. There is no prediction then, and the gain network is not
            trained.
        fidelity (`float`, *optional*, defaults to 0.0): Of the restored frames that the next frame is predicted from,
            0 to 1.
    """

    def __init__(self, recursion: KalmanRecursion, single_frames: bool, fidelity: float = 0.0) -> None:
        super().__init__()
        self.recursion, self.single_frames, self.fidelity = recursion, single_frames, fidelity
        assert recursion.kalman is not None
        recursion.requires_grad_(False)
        recursion.vq.lq_encoder.requires_grad_(True)
        recursion.vq.code_transformer.requires_grad_(True)
        recursion.kalman.requires_grad_(not single_frames)

    def forward(self, batch: Batch) -> StageOutput:
        sharp, degraded = batch["sharp"], batch["degraded"]
        vq = self.recursion.vq
        with torch.no_grad():
            true_latents, _ = vq.encode_hq(sharp.flatten(0, 1))
            true_codes = vq.nearest_codes(true_latents)
            true_vectors = vq.lookup(true_codes, true_latents)
        figures, images = {}, {}
        if self.single_frames:
            observed, _ = vq.encode_lq(degraded.flatten(0, 1))
            logits = vq.predict_codes(observed).float()
        else:
            output = self.recursion(degraded, fidelity=self.fidelity)
            observed, logits = output.observed.flatten(0, 1), output.logits.flatten(0, 1).float()
            figures = {"mean gain": output.gains[:, 1:].mean(), "std of gain": output.gains[:, 1:].std()}
        codes = logits.argmax(-1)
        if not self.training:
            # The image from the predicted codes alone, and its upper limit, the image from the true codes.
            restored, ceiling = (
                vq.decode(vq.lookup(each, observed))[0].unflatten(0, sharp.shape[:2]) for each in (codes, true_codes)
            )
            images = {"degraded": degraded, "restored": restored, "ceiling": ceiling, "sharp": sharp}
            figures["psnr of the true codes"] = psnr(ceiling, sharp)
            figures["distinct codes"] = torch.tensor(float(codes.unique().numel()))
        figures["observation"] = F.mse_loss(observed.float(), true_vectors)
        figures["cross-entropy"] = F.cross_entropy(logits.transpose(1, 2), true_codes, label_smoothing=LABEL_SMOOTHING)
        figures["code accuracy"] = (codes == true_codes).float().mean()
        return StageOutput(figures["observation"] + 0.5 * figures["cross-entropy"], figures, images)


def build_parser() -> Parser:
    parser = Parser(__doc__)
    add = parser.add_argument
    add("--vq", required=True, help="face model of stage 1, or of an earlier run of this stage")
    add("--kalman", help="gain network to start from, instead of a new one")
    add("--network", choices=sorted(KALMAN_NETWORKS), default="tiny", help="size of a new gain network")
    add("--flow", required=True, help="trained flow network")
    add("--clip-length", type=positive, default=4, help="frames per clip; 1 leaves the gain network out")
    add("--fidelity", type=float, default=0.0, help="of the frames that are predicted from; 1 after stage 3")
    add_arguments(parser)
    return parser


def main(arguments: list[str] | None = None) -> None:
    parser = build_parser()
    args = parser.parse_args(arguments)
    if not 0 <= args.fidelity <= 1:
        parser.error(f"--fidelity must be between 0 and 1, got {args.fidelity}")
    config = TrainerConfig.from_args(args)
    torch.manual_seed(args.seed)
    vq = KeepVQModel.from_pretrained(args.vq)
    if args.kalman:
        kalman = KalmanGainNetwork.from_pretrained(args.kalman)
    else:
        kalman = KalmanGainNetwork(**KALMAN_NETWORKS[args.network])
        # As published: the encoder of degraded faces starts from that of sharp faces.
        vq.lq_encoder.load_state_dict(vq.hq_encoder.state_dict())
    flow = GMFlow.from_pretrained(args.flow)
    size = vq.config.sample_size

    def save_models() -> None:
        vq.save_pretrained(config.output / "vq")
        kalman.save_pretrained(config.output / "kalman")

    Trainer(
        config,
        CodesStage(KalmanRecursion(vq, kalman, flow), args.clip_length == 1, args.fidelity),
        FaceClips(args.data, size, args.clip_length, TRAINING, seed=args.seed),
        save_models,
        open_validation(args.validation, size, args.clip_length, TRAINING),
    ).run()


if __name__ == "__main__":
    main()
