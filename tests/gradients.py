"""One training step of every stage, without the optimizers.

    torchrun --standalone --nproc-per-node N tests/gradients.py OUT.safetensors

The processes share a batch of two clips. The first process writes the gradients that an optimizer would see, and the
codebook.
"""

import sys

import torch
from accelerate import Accelerator
from safetensors.torch import save_file

from conftest import SIZE, make_components
from keep_hf import KalmanRecursion
from training.loop.stage import Stage
from training.loop.trainer import leave_together
from training.losses.adversary import Adversary, PatchDiscriminator, discriminator_loss
from training.losses.image_loss import ImageLoss
from training.train_codes import CodesStage
from training.train_keep import FusionStage
from training.train_vq import AutoencoderStage


def make_stages() -> dict[str, Stage]:
    """The three stages, each with its own components, because a stage freezes what it does not train."""
    torch.manual_seed(0)
    adversary = Adversary(PatchDiscriminator(over_time=False, channels=8), weight=0.5, start=0.0)
    adversary.before_step(0, 1)
    recursions = [KalmanRecursion(**make_components()) for _ in range(2)]
    stages = {
        "vq": AutoencoderStage(make_components()["vq"], ImageLoss(), adversary, unquantized=0, trained=True),
        "codes": CodesStage(recursions[0], single_frames=False),
        # In training mode it would draw a fidelity for every clip.
        "keep": FusionStage(recursions[1], ImageLoss(), 0.1, steadiness_weight=0.1).eval(),
    }
    return stages


def compute_gradients(accelerator: Accelerator) -> dict[str, torch.Tensor]:
    """The codebook, and the gradients that an optimizer would see, for a batch of two clips."""
    random = torch.Generator().manual_seed(0)
    batch = {name: torch.rand(2, 3, 3, SIZE, SIZE, generator=random) * 2 - 1 for name in ("sharp", "degraded")}
    share = 2 // accelerator.num_processes
    mine = {name: clips[accelerator.process_index * share :][:share] for name, clips in batch.items()}
    gradients = {}
    for name, stage in make_stages().items():
        modules: dict[str, torch.nn.Module] = {name: stage}
        output = (prepared := accelerator.prepare(stage))(mine)
        accelerator.backward(output.loss)
        if stage.adversary is not None:
            modules["discriminator"] = stage.adversary.discriminator
            discriminator = accelerator.prepare(stage.adversary.discriminator)
            scores = discriminator(torch.cat([output.images["sharp"], output.images["restored"].detach()]))
            accelerator.backward(discriminator_loss(scores))
            gradients["codebook"] = stage.vq.codebook.weight.detach()
        for which, module in modules.items():
            gradients |= {f"{which}.{key}": p.grad for key, p in module.named_parameters() if p.grad is not None}
        del prepared
    return gradients


def main() -> None:
    accelerator = Accelerator(cpu=True)
    gradients = compute_gradients(accelerator)
    if accelerator.is_main_process:
        metadata = {"processes": str(accelerator.num_processes)}
        save_file({key: value.contiguous() for key, value in gradients.items()}, sys.argv[1], metadata)
    leave_together(accelerator)


if __name__ == "__main__":
    main()
