"""Validation during training: the figures of a stage on held-out data, and an image of its results."""

from collections import defaultdict
from pathlib import Path

import numpy as np
import torch
from accelerate.utils import send_to_device
from PIL import Image
from torch.utils.data import DataLoader

from keep_hf.evaluation.metrics import psnr, ssim
from keep_hf.video.pixels import to_images

from .stage import Stage, TrainingSet


MAX_BATCHES = 16
MAX_COLUMNS = 8


class Validation:
    """Evaluates a stage, on the same data every time.

    Args:
        dataset ([`TrainingSet`]): Its `epoch` stays 0, so that clips and degradations are always the same.
        batch_size (`int`): Items per batch.
        folder (`Path`): Where the images go.
    """

    def __init__(self, dataset: TrainingSet, batch_size: int, folder: Path) -> None:
        self.batches = DataLoader(dataset, min(batch_size, len(dataset)), num_workers=0)
        self.folder = folder

    @torch.no_grad()
    def run(self, stage: Stage, step: int) -> dict[str, float]:
        """Evaluate up to 16 batches; if the stage outputs images, write `<step>.jpg` with a row for each kind of them.

        Returns:
            `dict[str, float]`: means over the data, with names that start with "validation ".
        """
        device = next(stage.parameters()).device
        values: dict[str, list[float]] = defaultdict(list)
        columns = []
        stage.eval()
        # The random numbers that are drawn here must not change those of the training.
        with torch.random.fork_rng():
            torch.manual_seed(0)
            for _, batch in zip(range(MAX_BATCHES), self.batches, strict=False):
                output = stage(send_to_device(batch, device))
                for name, value in {"loss": output.loss, **output.figures}.items():
                    values[name].append(value.item())
                if not output.images:
                    continue
                images = {name: to_images(clips.flatten(0, 1)) for name, clips in output.images.items()}
                for restored, sharp in zip(images["restored"], images["sharp"], strict=True):
                    values["psnr"].append(psnr(restored, sharp))
                    values["ssim"].append(ssim(restored, sharp))
                # The last frame of the first clip depends on all frames before it.
                last = output.images["restored"].shape[1] - 1
                columns.append(np.vstack([each[last] for each in images.values()]))
        stage.train()
        if columns:
            self.folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.hstack(columns[:MAX_COLUMNS])).save(self.folder / f"{step}.jpg", quality=92)
        return {f"validation {name}": float(np.mean(each)) for name, each in values.items()}
