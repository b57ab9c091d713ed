"""Train a small GMFlow on degraded faces that move by a known flow.

    accelerate launch -m training.train_flow --data faces/ --output runs/flow_128 --size 128 --steps 2000
    accelerate launch -m training.train_flow --data faces/ --output runs/flow --initial runs/flow_128/flow --steps 2000

`faces/` is a folder of portraits. Every pair is made while training: a smooth random flow is drawn first, then

    image 2 (p) = face(A p)        image 1 (p) = face(A (p + flow(p)))        A: a random placement of the crop

so the true flow from image 1 to image 2 is exact and no pixel is resampled twice. Sometimes a face moves in front of
another picture, which has its own flow. Both images are then degraded alike (blur, low resolution, noise,
compression), because KEEP estimates flow between degraded frames. A twelfth of the portraits, chosen by name, is held
out; the end-point error on it stands beside that of no motion and of OpenCV's DIS flow. Small crops first: a step
costs little, and the network that they give needs only a short while at the full size.
"""

import math
import zlib
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import Dataset

from keep_hf.models.flow.gmflow import REDUCTION, GMFlow, match
from keep_hf.models.flow.warp import pixel_grid
from keep_hf.video.media_files import IMAGE_SUFFIXES, find_images
from keep_hf.video.pixels import to_images, to_tensor

from .loop import Parser, add_arguments, train


TINY = {
    "backbone_channels": (16, 32, 64),
    "feature_channels": 64,
    "num_layers": 3,
    "feedforward_expansion": 2,
    "upsampler_channels": 96,
}
LONGEST = 24 / 256  # of a flow, as part of the side of the image


# --- data: a pair of degraded faces and the flow between them -------------------------------------------------------


def smooth_field(rng: np.random.Generator, size: int, cells: int) -> np.ndarray:
    """A random vector field (size, size, 2) of unit strength that changes over `size / cells` pixels."""
    coarse = rng.normal(size=(cells + 2, cells + 2, 2)).astype(np.float32)
    return cv2.resize(coarse, (size, size), interpolation=cv2.INTER_CUBIC)


def random_flow(rng: np.random.Generator, grid: np.ndarray, longest: float) -> np.ndarray:
    """Shift, turn, zoom and deformations at several scales; mostly small, now and then as long as `longest` pixels."""
    size = len(grid)
    strength = longest * rng.random() ** 3
    angle, zoom = rng.normal(size=2) * strength / size
    turn = np.array([[zoom, -angle], [angle, zoom]], np.float32)
    centre = rng.uniform(0.3, 0.7, 2) * size
    flow = (grid - centre) @ turn.T + rng.normal(size=2) * strength * 0.5 * (rng.random() < 0.7)
    for cells in (2, 4, 8, 14):
        if rng.random() < 0.6:
            flow = flow + smooth_field(rng, size, cells) * strength * rng.random() / cells
    peak = np.sqrt((flow**2).sum(-1)).max()
    return (flow * min(1.0, longest / max(peak, 1e-6))).astype(np.float32)


def soft_ellipse(rng: np.random.Generator, size: int) -> np.ndarray:
    mask = np.zeros((size, size), np.float32)
    centre, axes = rng.uniform(0.35, 0.65, 2) * size, rng.uniform(0.15, 0.45, 2) * size
    cv2.ellipse(mask, centre.astype(int).tolist(), axes.astype(int).tolist(), rng.uniform(0, 180), 0, 360, 1, -1)
    return cv2.GaussianBlur(mask, (0, 0), 1)


def sample(image: np.ndarray, points: np.ndarray) -> np.ndarray:
    return cv2.remap(image, points.astype(np.float32), None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)


def degrade(rng: np.random.Generator, images: list[np.ndarray]) -> list[np.ndarray]:
    """The same blur, resolution, noise strength and compression for all images; the noise itself differs."""
    height, width = images[0].shape[:2]
    if rng.random() < 0.1:
        return images
    blur = rng.uniform(0.2, 3.0) * height / 256
    scale = rng.uniform(1, 5)
    noise = rng.uniform(0, 12) * (rng.random() < 0.7)
    quality = int(rng.integers(20, 95))
    degraded = []
    for image in images:
        image = cv2.GaussianBlur(image, (0, 0), blur)
        image = cv2.resize(image, None, fx=1 / scale, fy=1 / scale, interpolation=cv2.INTER_AREA)
        image = np.clip(image + rng.normal(size=image.shape) * noise, 0, 255).astype(np.uint8)
        image = cv2.imdecode(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1], cv2.IMREAD_COLOR)
        degraded.append(cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR))
    return degraded


class MovingFaces(Dataset):
    """Pairs of degraded images with their flow; all that is random is drawn from (seed, epoch, index) alone."""

    def __init__(self, paths: list[Path], size: int, seed: int):
        self.paths, self.size, self.seed = paths, size, seed
        self.epoch = 0

    def __len__(self) -> int:
        return len(self.paths)

    def place(self, path: Path, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The image, small enough not to alias, and the matrix and offset that place the crop in it."""
        image = cv2.imread(str(path), cv2.IMREAD_COLOR_RGB)
        shrink = self.size * rng.uniform(1.0, 1.8) / min(image.shape[:2])
        if shrink < 1:
            image = cv2.resize(image, None, fx=shrink, fy=shrink, interpolation=cv2.INTER_AREA)
        if rng.random() < 0.5:
            image = np.ascontiguousarray(image[:, ::-1])
        angle, zoom = rng.normal() * 0.2, rng.uniform(0.8, 1.05)
        matrix = zoom * np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
        middle = np.array(image.shape[1::-1]) / 2 + rng.uniform(-0.15, 0.15, 2) * self.size
        return image, matrix.T, middle - matrix @ np.full(2, self.size / 2)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        rng = np.random.default_rng((self.seed, self.epoch, index))
        grid = np.stack(np.meshgrid(np.arange(self.size), np.arange(self.size)), axis=-1).astype(np.float32)
        longest = LONGEST * self.size

        face, matrix, offset = self.place(self.paths[index], rng)
        flow = random_flow(rng, grid, longest)
        image2 = sample(face, grid @ matrix + offset)
        image1 = sample(face, (grid + flow) @ matrix + offset)
        visible = np.ones((self.size, self.size), bool)
        if rng.random() < 0.4:
            # The face, cut out, in front of another picture that moves by itself and is hidden where the face was.
            back, matrix, offset = self.place(self.paths[rng.integers(len(self.paths))], rng)
            back_flow = random_flow(rng, grid, longest / 2)
            mask2 = soft_ellipse(rng, self.size)
            mask1, hidden = sample(mask2, grid + flow), sample(mask2, grid + back_flow)
            weight1, weight2 = mask1[..., None], mask2[..., None]
            image2 = weight2 * image2 + (1 - weight2) * sample(back, grid @ matrix + offset)
            image1 = weight1 * image1 + (1 - weight1) * sample(back, (grid + back_flow) @ matrix + offset)
            visible = (mask1 > 0.5) | (hidden < 0.5)
            flow = np.where(weight1 > 0.5, flow, back_flow)

        gain, bias = 1 + rng.normal() * 0.15, rng.normal() * 15
        images = [np.clip(image * (gain + rng.normal() * 0.01) + bias, 0, 255) for image in (image1, image2)]
        image1, image2 = degrade(rng, [image.astype(np.uint8) for image in images])
        return {
            "image1": to_tensor(image1),
            "image2": to_tensor(image2),
            "flow": torch.from_numpy(flow.transpose(2, 0, 1).astype(np.float32)),
            "visible": torch.from_numpy(visible[None].astype(np.float32)),
        }


# --- the losses ------------------------------------------------------------------------------------------------------


class FlowStage(nn.Module):
    def __init__(self, flow: GMFlow):
        super().__init__()
        self.flow = flow

    def forward(self, batch: dict[str, torch.Tensor]) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
        features = self.flow.encode(torch.cat((batch["image1"], batch["image2"])))
        features1, features2 = self.flow.transformer(*features.chunk(2))
        matched = match(features1, features2)
        propagated = self.flow.propagation(matched, features1)
        fine = self.flow.upsampler(propagated, features1)

        # The truth is known behind occlusions too: filling them in is what propagation is there to learn.
        coarse_truth = F.avg_pool2d(batch["flow"], REDUCTION) / REDUCTION
        seen = (F.avg_pool2d(batch["visible"], REDUCTION) > 0.5).float() * inside(coarse_truth)
        # Errors count relative to the motion, or the network would learn the long flows and call small ones zero.
        weight = 4 / (2 + batch["flow"].norm(dim=1).mean((1, 2)))[:, None, None, None]
        fine_loss = (weight * charbonnier(fine - batch["flow"])).mean()
        propagated_loss = (weight * REDUCTION * charbonnier(propagated - coarse_truth)).mean()
        matched_loss = (weight * REDUCTION * charbonnier(matched - coarse_truth) * seen).mean()
        cross_entropy = matching_cross_entropy(features1, features2, coarse_truth, seen)
        losses = {
            "loss": fine_loss + 0.5 * propagated_loss + 0.3 * matched_loss + 0.5 * cross_entropy,
            "end-point error": end_point_error(fine, batch["flow"]),
        }
        return losses, {}


def charbonnier(error: torch.Tensor) -> torch.Tensor:
    return (error.square().sum(1, keepdim=True) + 1e-4).sqrt()


def end_point_error(flow: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    return (flow - truth).norm(dim=1).mean()


def inside(flow: torch.Tensor) -> torch.Tensor:
    """1 where the flow ends inside the image, shape (b, 1, h, w)."""
    height, width = flow.shape[2:]
    x, y = (pixel_grid(height, width, flow.device) + flow).split(1, dim=1)
    return ((x >= 0) & (x <= width - 1) & (y >= 0) & (y <= height - 1)).float()


def matching_cross_entropy(features1, features2, flow, seen) -> torch.Tensor:
    """-log of the matching probability at the true position, shared bilinearly by the four positions around it."""
    height, width = flow.shape[2:]
    with torch.autocast(features1.device.type, enabled=False):
        scores = features1.float().flatten(2).transpose(1, 2) @ features2.float().flatten(2)
        log_probability = (scores / math.sqrt(features1.shape[1])).log_softmax(-1)
    goal = (pixel_grid(height, width, flow.device) + flow).flatten(2)
    x, y = goal[:, 0].clamp(0, width - 1.001), goal[:, 1].clamp(0, height - 1.001)
    left, top = x.floor(), y.floor()
    total = torch.zeros_like(x)
    for column, row in ((left, top), (left + 1, top), (left, top + 1), (left + 1, top + 1)):
        share = (1 - (x - column).abs()) * (1 - (y - row).abs())
        index = (row * width + column).long()
        total = total + share * log_probability.gather(2, index[..., None])[..., 0]
    return -(total * seen.flatten(1)).mean()


# --- measure and run -------------------------------------------------------------------------------------------------


@torch.no_grad()
def evaluate(flow: GMFlow, pairs: MovingFaces) -> dict[str, float]:
    """Mean end-point error in pixels of the network, of no motion, and of OpenCV's DIS flow."""
    dis = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    errors: dict[str, list[float]] = {"network": [], "no motion": [], "DIS": []}
    for index in range(len(pairs)):
        pair = {name: value[None] for name, value in pairs[index].items()}
        image1, image2, truth = pair["image1"], pair["image2"], pair["flow"]
        grey = [cv2.cvtColor(to_images(image[0]), cv2.COLOR_RGB2GRAY) for image in (image1, image2)]
        estimates = {
            "network": flow(image1.to(flow.device), image2.to(flow.device)).cpu(),
            "no motion": torch.zeros_like(truth),
            "DIS": torch.from_numpy(dis.calc(*grey, None)).permute(2, 0, 1)[None],
        }
        for name, estimate in estimates.items():
            errors[name].append(end_point_error(estimate, truth).item())
    return {name: sum(values) / len(values) for name, values in errors.items()}


def find_portraits(folders: list[str]) -> tuple[list[Path], list[Path]]:
    """The portraits to train on and those held out."""
    paths = sorted(path for folder in folders for path in find_images(Path(folder)))
    held_out = [path for path in paths if zlib.crc32(path.name.encode()) % 12 == 0]
    training = [path for path in paths if path not in set(held_out)]
    if not training or not held_out:
        raise ValueError(f"{folders} hold {len(paths)} images ({sorted(IMAGE_SUFFIXES)}); some dozens are needed.")
    return training, held_out


def main() -> None:
    parser = Parser(__doc__)
    parser.add_argument("--size", type=int, default=256, help="side of the crops in pixels")
    parser.add_argument("--initial", help="GMFlow to start from: a folder or a Hub id")
    add_arguments(parser, learning_rate=1e-3)
    args = parser.parse_args()

    torch.manual_seed(args.seed)
    cv2.setNumThreads(1)
    training, held_out = find_portraits(args.data)
    flow = GMFlow(**TINY)
    if args.initial:
        flow.load_state_dict(GMFlow.from_pretrained(args.initial).state_dict())
    test_pairs = MovingFaces(held_out, args.size, seed=10_000)

    def save() -> None:
        flow.save_pretrained(args.output / "flow")
        figures = evaluate(flow, test_pairs)
        print("held out, px:", *(f"{name} {error:.3f}" for name, error in figures.items()), flush=True)

    train(args, FlowStage(flow), MovingFaces(training, args.size, args.seed), save)


if __name__ == "__main__":
    main()
