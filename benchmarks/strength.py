"""How well `strength="auto"` weighs restored faces: sharp portraits, degraded at known levels, against their truth.

    python -m benchmarks.strength --faces FOLDER [--number N] [--model keep-tiny] [--seed N]

FOLDER holds portraits and `metadata.jsonl` with their file names and five landmarks. Each portrait becomes a clip of
four frames with slight motion, so that the codec works as it does in a video; the last frame is measured. For every
level the table gives means over the portraits: sharpness, the true and the estimated error (both relative to contrast,
see `keep_hf.restoration.auto_strength`), the departure of the result, the weight that minimizes the squared error in
the face, the weight that was chosen, and the PSNR of input, result and blend. Below it stands the fit of the error to
the sharpness, over all levels: compare it with the constants of `auto_strength.py`.
"""

import argparse
import json
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from keep_hf import KeepPipeline
from keep_hf.degrade import LEVELS, Degradation, degrade_frames
from keep_hf.faces.alignment import TEMPLATE_SIZE, crop_face, estimate_alignment
from keep_hf.restoration.auto_strength import CONTRAST_BANDS, ERROR_OFFSET, JUDGED, AutoStrength, face_bands, luma


NUM_FRAMES = 4
WITHOUT_NOISE: dict[str, Any] = {"noise_sigma": (0.0, 0.0), "scale": 1.0, "kernel_size": 11}
CONDITIONS: dict[str, Degradation | None] = {
    "none": None,
    "H.264, CRF 30": Degradation(blur_sigma=(0.05, 0.1), crf=(30, 30), **WITHOUT_NOISE),
    "blur 2": Degradation(blur_sigma=(2.0, 2.0), crf=(20, 20), **WITHOUT_NOISE),
    "half the size": Degradation(blur_sigma=(0.7, 0.7), crf=(20, 20), **WITHOUT_NOISE | {"scale": 2.0}),
    **LEVELS,
}


@dataclass(frozen=True)
class Sample:
    """What is measured of one portrait at one level; a row of the table is the mean over the portraits."""

    sharpness: float
    true_error: float
    estimated_error: float
    departure: float
    best_weight: float
    weight: float
    input_psnr: float
    result_psnr: float
    blend_psnr: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--faces", type=Path, required=True, help="folder of portraits with metadata.jsonl")
    parser.add_argument("--number", type=int, default=12, help="number of portraits, drawn at random")
    parser.add_argument("--model", default="keep-tiny", help="built-in name, folder or Hub id")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.set_grad_enabled(False)
    pipe = KeepPipeline.from_pretrained(args.model)
    pipe.set_progress_bar_config(disable=True)
    rows: dict[str, list[Sample]] = {name: [] for name in CONDITIONS}
    random = np.random.default_rng(args.seed)
    for frames, matrix in read_portraits(args.faces, args.number, random):
        for name, degradation in CONDITIONS.items():
            rows[name].append(measure_portrait(pipe, frames, matrix, degradation, int(random.integers(2**30))))
    print_table(rows)


def read_portraits(folder: Path, number: int, random: np.random.Generator) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Clips `(t, h, w, 3)` whose last frame is a portrait, and the alignment `(2, 3)` of that frame."""
    entries = [json.loads(line) for line in (folder / "metadata.jsonl").read_text().splitlines()]
    for index in random.permutation(len(entries))[:number]:
        image = cv2.imread(str(folder / entries[index]["file_name"]))
        assert image is not None
        image = cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
        height, width = image.shape[:2]
        frames = []
        for step in range(NUM_FRAMES - 1, -1, -1):
            motion = cv2.getRotationMatrix2D((width / 2, height / 2), 0.25 * step, 1.0)
            motion[:, 2] += np.array([0.7, -0.45]) * step
            moved = cv2.warpAffine(
                image, motion, (width, height), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT
            )
            frames.append(moved if step else image)
        yield np.stack(frames), estimate_alignment(np.array(entries[index]["landmarks"]))


def measure_portrait(
    pipe: KeepPipeline, frames: np.ndarray, matrix: np.ndarray, degradation: Degradation | None, seed: int
) -> Sample:
    """Degrade a clip, restore its last frame and compare both with the truth, inside the face."""
    truth = luma(crop_face(frames[-1], matrix))
    image = frames[-1]
    if degradation is not None:
        image = degrade_frames(frames, degradation, seed=seed)[-1]
        shrink = image.shape[1] / frames.shape[2]
        # Pixel centres are at whole numbers.
        shifted = matrix[:, 2] + matrix[:, :2] @ np.full(2, (1 - shrink) / (2 * shrink))
        matrix = np.column_stack([matrix[:, :2] / shrink, shifted])
    size = pipe.vq.config.sample_size
    crop = crop_face(image, matrix * (size / TEMPLATE_SIZE), size)
    with pipe.stream(aligned=True, strength=1.0) as stream:
        (restored,) = stream.restore([crop])
    seen = luma(crop_face(image, matrix))
    is_direct = stream.restorer.compositor.adds_corrections
    change = luma(restored.image) - (luma(crop) if is_direct else seen)
    judgement = AutoStrength(25.0, is_direct).judge({0: (seen, change)})[0]
    measured = judgement.measured
    assert measured is not None

    lacking = truth - seen
    contrast = rms(face_bands(seen), CONTRAST_BANDS)
    lacking_bands, change_bands = face_bands(lacking), face_bands(change)
    dot = sum(float(np.mean(a * b)) for a, b in zip(lacking_bands, change_bands, strict=True))
    square = sum(float(np.mean(b * b)) for b in change_bands)
    return Sample(
        measured.sharpness,
        rms(lacking_bands, JUDGED) / contrast,
        measured.error,
        measured.departure,
        dot / max(square, 1e-3),
        judgement.weight,
        *(psnr(lacking - weight * change) for weight in (0.0, 1.0, judgement.weight)),
    )


def rms(bands: list[np.ndarray], levels: tuple[int, ...]) -> float:
    """Root of the sum of the mean squares of some of the bands."""
    return float(np.sqrt(sum(np.mean(bands[level] ** 2) for level in levels)))


def psnr(error: np.ndarray) -> float:
    """PSNR in dB of an error `(512, 512)` in levels of 255; at most 60, because sharp faces have none."""
    return float(20 * np.log10(255 / max(np.sqrt(np.mean(error**2)), 0.255)))


def print_table(rows: dict[str, list[Sample]]) -> None:
    names = [field.name for field in fields(Sample)]
    print("| level | " + " | ".join(name.replace("_", " ") for name in names) + " |")
    print("|---" * (len(names) + 1) + "|")
    for level, samples in rows.items():
        means = [np.mean([getattr(sample, name) for sample in samples]) for name in names]
        print(f"| {level} | " + " | ".join(f"{mean:.2f}" for mean in means) + " |")
    samples = [sample for row in rows.values() for sample in row]
    x = np.log([sample.sharpness for sample in samples])
    y = np.log([sample.true_error + ERROR_OFFSET for sample in samples])
    exponent, constant = np.polyfit(x, y, 1)
    residual = np.std(y - exponent * x - constant)
    print(f"\nError = {np.exp(constant):.4f} * sharpness ** {exponent:.2f} - {ERROR_OFFSET}; residual {residual:.2f}")


if __name__ == "__main__":
    main()
