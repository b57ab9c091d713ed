"""Held-out clips on the way: the losses, PSNR and SSIM as means over them, and a strip to look at."""

import argparse
from collections import defaultdict

import numpy as np
import torch
from accelerate.utils import send_to_device
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader, Dataset

from keep_hf.evaluation.metrics import psnr, ssim
from keep_hf.video.pixels import to_images


BATCHES = 16
COLUMNS = 8


class Validation:
    """Measures a stage on the same clips every time.

    Args:
        dataset (`Dataset`): Its `epoch` stays 0, so that clips and degradations are always the same.
        args: From `loop.add_arguments`.
    """

    def __init__(self, dataset: Dataset, args: argparse.Namespace) -> None:
        self.batches = DataLoader(dataset, min(args.batch_size, len(dataset)), num_workers=0)
        self.folder = args.output / "validation"

    @torch.no_grad()
    def run(self, stage: nn.Module, step: int) -> dict[str, float]:
        """Measure, and write `validation/<step>.jpg`: a row for each kind of picture.

        Returns:
            `dict[str, float]`: by names that begin with "validation ".
        """
        device = next(stage.parameters()).device
        values = defaultdict(list)
        columns = []
        stage.eval()
        # What is drawn here must not change what training draws next.
        with torch.random.fork_rng():
            torch.manual_seed(0)
            for _, batch in zip(range(BATCHES), self.batches, strict=False):
                losses, pictures = stage(send_to_device(batch, device))
                for name, value in losses.items():
                    values[name].append(value.item())
                levels = {name: to_images(clips.flatten(0, 1)) for name, clips in pictures.items()}
                for made, sharp in zip(levels["made"], levels["sharp"], strict=True):
                    values["psnr"].append(psnr(made, sharp))
                    values["ssim"].append(ssim(made, sharp))
                # The last frame of the first clip: by then it has had all that came before it.
                last = pictures["made"].shape[1] - 1
                columns.append(np.vstack([levels[name][last] for name in pictures]))
        stage.train()
        self.folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.hstack(columns[:COLUMNS])).save(self.folder / f"{step}.jpg", quality=92)
        return {f"validation {name}": float(np.mean(each)) for name, each in values.items()}
