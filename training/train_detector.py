"""Train the small face detector of keep_hf on pictures and videos of faces, with YuNet as the teacher.

    accelerate launch -m training.train_detector --data ../shared/media/train_faces ../shared/media/train_clips \
        --teacher ../shared/weights/yunet_n_dynamic.onnx --output_dir runs/detector

No label is needed: the teacher looks at every clean picture at several sizes and in the mirror, and the medians of
what it sees are the labels.  The student sees the same faces small, turned, side by side, blurred, noisy and
compressed.

The script in order: portraits (clean picture, box, landmarks) -> examples (a mosaic of faces to search; close looks at
single faces) -> losses -> loop.  One CPU core gives a usable detector in about 25 minutes.
"""

import argparse
import copy
import time
from dataclasses import dataclass
from pathlib import Path

import av
import cv2
import numpy as np
import torch
import torch.nn.functional as F
from accelerate import Accelerator
from accelerate.utils import send_to_device, set_seed
from diffusers.optimization import get_cosine_schedule_with_warmup
from torch import nn

from keep_hf.faces.detector import CLOSE_UP_MARGIN, FaceDetector
from keep_hf.faces.yunet import YuNet
from keep_hf.video.media_files import is_image, is_video
from keep_hf.video.pixels import to_tensor


# In the mirror the left eye becomes the right one.
MIRRORED = [1, 0, 2, 4, 3]


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, nargs="+", required=True, help="folders with pictures or videos")
    parser.add_argument("--teacher", type=Path, required=True, help="face_detection_yunet_*.onnx")
    parser.add_argument("--output_dir", type=Path, required=True)
    parser.add_argument("--init", type=Path, help="folder of a trained detector to go on from")
    parser.add_argument("--frames_per_video", type=int, default=16)
    parser.add_argument("--canvas", type=int, default=192, help="side of the mosaics in pixels, a multiple of 32")
    parser.add_argument("--batch_size", type=int, default=16, help="mosaics a step")
    parser.add_argument("--looks", type=int, default=2, help="close looks for every mosaic")
    parser.add_argument("--max_train_steps", type=int, default=3000)
    parser.add_argument("--learning_rate", type=float, default=2e-3)
    parser.add_argument("--save_steps", type=int, default=500)
    parser.add_argument("--num_workers", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    if args.canvas % 32:
        parser.error(f"--canvas must be a multiple of 32, got {args.canvas}")
    return args


@dataclass
class Portrait:
    """A picture with one face: RGB uint8, box (left, top, right, bottom) and landmarks (5, 2) in its pixels."""

    picture: np.ndarray
    box: np.ndarray
    landmarks: np.ndarray


def read_pictures(folders: list[Path], frames_per_video: int):
    for path in sorted(path for folder in folders for path in folder.rglob("*")):
        if is_image(path):
            yield cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)
        elif is_video(path):
            with av.open(str(path)) as container:
                frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
            yield from frames[:: max(len(frames) // frames_per_video, 1)]


def mirror(portrait: Portrait) -> Portrait:
    last = portrait.picture.shape[1] - 1
    left, top, right, bottom = portrait.box
    return Portrait(
        np.ascontiguousarray(portrait.picture[:, ::-1]),
        np.array([last - right, top, last - left, bottom]),
        (portrait.landmarks * (-1, 1) + (last, 0))[MIRRORED],
    )


def label(picture: np.ndarray, teacher: YuNet) -> Portrait | None:
    """Ask the teacher at three sizes, plain and mirrored; a picture where it ever sees other than one face is left."""
    boxes, landmarks = [], []
    for side in (320, 400, 480):
        scale = side / max(picture.shape[:2])
        small = cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        mirrored = np.ascontiguousarray(small[:, ::-1])
        plain_faces, mirrored_faces = teacher.detect([small, mirrored])
        if len(plain_faces) != 1 or len(mirrored_faces) != 1:
            return None
        plain = Portrait(small, plain_faces.boxes[0], plain_faces.landmarks[0])
        for seen in (plain, mirror(Portrait(mirrored, mirrored_faces.boxes[0], mirrored_faces.landmarks[0]))):
            boxes.append((seen.box + 0.5) / scale - 0.5)
            landmarks.append((seen.landmarks + 0.5) / scale - 0.5)
    return Portrait(picture, np.median(boxes, axis=0), np.median(landmarks, axis=0))


def make_portraits(args: argparse.Namespace) -> list[Portrait]:
    teacher = YuNet(args.teacher)
    portraits = []
    for picture in read_pictures(args.data, args.frames_per_video):
        scale = min(400 / max(picture.shape[:2]), 1)
        portrait = label(cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA), teacher)
        if portrait is not None:
            portraits.append(portrait)
    return portraits


def side_of(box: np.ndarray) -> float:
    return float(np.sqrt((box[2] - box[0]) * (box[3] - box[1])))


def draw(rng: np.random.Generator, portraits: list[Portrait]) -> Portrait:
    """A random portrait, every second time in the mirror."""
    portrait = portraits[rng.integers(len(portraits))]
    return mirror(portrait) if rng.random() < 0.5 else portrait


def similarity(angle: float, scale: float, source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Turn and scale about `source`, and put it at `target`."""
    turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return np.concatenate([turn, (target - turn @ source)[:, None]], axis=1)


def make_background(rng: np.random.Generator, portraits: list[Portrait], size: int) -> np.ndarray:
    """What is no face: the outskirts of a portrait, shuffled tiles of one (eyes, mouths, no face), or texture."""
    portrait = portraits[rng.integers(len(portraits))]
    kind = rng.integers(3)
    if kind == 0:
        left, _, right, _ = portrait.box.astype(int)
        strips = portrait.picture[:, : max(left, 1)], portrait.picture[:, min(right, portrait.picture.shape[1] - 1) :]
        picture = max(strips, key=lambda strip: strip.shape[1])
    elif kind == 1:
        # Rows of tiles change places, and so do the columns in each row.
        tile = int(rng.choice([32, 40, 64]))
        rows = rng.permutation(cv2.resize(portrait.picture, (320, 320)).reshape(-1, tile, 320, 3))
        picture = np.vstack([np.hstack(rng.permutation(np.split(row, 320 // tile, axis=1))) for row in rows])
    else:
        grid = rng.integers(2, 40, 2)
        picture = (rng.random((*grid, 3)) * 255 * rng.random() + rng.integers(0, 128)).clip(0, 255).astype(np.uint8)
    return cv2.resize(picture, (size, size), interpolation=cv2.INTER_CUBIC)


def make_mosaic(rng: np.random.Generator, portraits: list[Portrait], size: int):
    """Up to five faces, from 20 px to wider than the mosaic, on a background; later ones do not cover earlier ones."""
    canvas = make_background(rng, portraits, size)
    count = rng.choice(6, p=[0.05, 0.4, 0.15, 0.15, 0.15, 0.1])
    longest = 1.17 * size if count == 1 else 0.5 * size
    boxes: list[np.ndarray] = []
    for _ in range(count):
        portrait = draw(rng, portraits)
        side = float(np.exp(rng.uniform(np.log(20), np.log(longest))))
        scale, angle = side / side_of(portrait.box), np.deg2rad(rng.uniform(-30, 30))
        corners = portrait.box.reshape(2, 2)
        middle, half = corners.mean(axis=0), (corners[1] - corners[0]) * scale / 2
        matrix = similarity(angle, scale, middle, rng.uniform(0.3 * side, size - 0.3 * side, 2))
        target = matrix[:, :2] @ middle + matrix[:, 2]
        # The portrait around the face: all of it, or cut off near the face.
        reach = half * rng.uniform(1.2, 6.0, 2)
        patch = np.concatenate([target - reach, target + reach])
        if any(np.all(patch[:2] < box[2:]) and np.all(box[:2] < patch[2:]) for box in boxes):
            continue
        # Averaged while it shrinks, so that small faces look as a camera takes them.
        step = max(int(1 / scale), 1)
        source = cv2.resize(portrait.picture, None, fx=1 / step, fy=1 / step, interpolation=cv2.INTER_AREA)
        shrunk = matrix @ np.array([[step, 0, (step - 1) / 2], [0, step, (step - 1) / 2], [0, 0, 1]])
        left, top, right, bottom = np.clip(np.rint(patch), 0, size).astype(int)
        opaque = np.dstack([source, np.full_like(source[..., 0], 255)])
        warped = cv2.warpAffine(opaque, shrunk, (size, size))[top:bottom, left:right]
        inside = warped[..., 3] == 255
        canvas[top:bottom, left:right][inside] = warped[inside][:, :3]
        boxes.append(np.concatenate([target - half, target + half]))
    smallest = min((side_of(box) for box in boxes), default=40.0)
    return degrade(rng, canvas, smallest), np.reshape(boxes, (-1, 4))


def make_look(rng: np.random.Generator, portraits: list[Portrait], size: int):
    """A close look, as the detector takes it around landmarks that are somewhat wrong, and the true places in it."""
    portrait = draw(rng, portraits)
    middle = portrait.landmarks.mean(axis=0)
    spread = np.sqrt(((portrait.landmarks - middle) ** 2).sum(axis=1).mean())
    # Boxes are off by much now and then, mostly by little.
    off = 1.0 if rng.random() < 0.5 else 0.25
    side = 2 * CLOSE_UP_MARGIN * spread * np.exp(rng.normal(0, 0.2 * off))
    target = size + rng.normal(0, 0.1 * off, 2) * 2 * size
    # Taken at twice the size and averaged.
    matrix = similarity(np.deg2rad(rng.uniform(-35, 35)), 2 * size / side, middle, target)
    wide = cv2.warpAffine(portrait.picture, matrix, (2 * size, 2 * size), borderMode=cv2.BORDER_REPLICATE)
    picture = cv2.resize(wide, (size, size), interpolation=cv2.INTER_AREA)
    places = (portrait.landmarks @ matrix[:, :2].T + matrix[:, 2] + 0.5) / (2 * size) - 0.5
    return degrade(rng, picture, 0.6 * size), places


def degrade(rng: np.random.Generator, picture: np.ndarray, smallest: float) -> np.ndarray:
    """Light, colour, blur, resolution, noise, compression; a face of `smallest` px keeps at least about 14 px."""
    height, width = picture.shape[:2]
    limit = max(smallest / 14, 1.0)
    if rng.random() < 0.1:
        picture = cv2.cvtColor(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    light = 255 * (np.arange(256) / 255) ** np.exp(rng.normal(0, 0.35))
    gains = np.exp(rng.normal(0, 0.2) + rng.normal(0, 0.06, 3))
    picture = cv2.LUT(picture, (light[:, None] * gains).clip(0, 255).astype(np.uint8)[None])
    if rng.random() < 0.4:
        picture = cv2.GaussianBlur(picture, (0, 0), rng.uniform(0.3, 0.3 + 0.7 * min(limit, 4)))
    if rng.random() < 0.1:
        length = int(rng.uniform(2, 2 + 2 * min(limit, 4)))
        kernel = np.diag(np.ones(length)) if rng.random() < 0.5 else np.ones((1, length))
        picture = cv2.filter2D(picture, -1, kernel / kernel.sum())
    if rng.random() < 0.5:
        scale = 1 / rng.uniform(1, min(limit, 5))
        how = int(rng.choice([cv2.INTER_AREA, cv2.INTER_LINEAR, cv2.INTER_CUBIC]))
        picture = cv2.resize(picture, None, fx=scale, fy=scale, interpolation=how)
    if rng.random() < 0.5:
        noise = rng.standard_normal(picture.shape, dtype=np.float32) * rng.uniform(1, 18)
        picture = (picture + noise).clip(0, 255).astype(np.uint8)
    if rng.random() < 0.6:
        quality = int(rng.uniform(8, 70))
        coded = cv2.imencode(".jpg", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
        picture = cv2.cvtColor(cv2.imdecode(coded, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
    return cv2.resize(picture, (width, height), interpolation=cv2.INTER_LINEAR)


class Examples(torch.utils.data.IterableDataset):
    """Batches without end, other ones in every process and worker."""

    def __init__(self, portraits: list[Portrait], args: argparse.Namespace, look_size: int, process: int):
        self.portraits, self.args, self.look_size, self.process = portraits, args, look_size, process

    def __iter__(self):
        worker = torch.utils.data.get_worker_info()
        rng = np.random.default_rng([self.args.seed, self.process, 0 if worker is None else worker.id])
        while True:
            count = self.args.batch_size
            mosaics = [make_mosaic(rng, self.portraits, self.args.canvas) for _ in range(count)]
            looks = [make_look(rng, self.portraits, self.look_size) for _ in range(count * self.args.looks)]
            pictures, boxes = zip(*mosaics, strict=True)
            look_pictures, places = zip(*looks, strict=True)
            boxes = [torch.from_numpy(of_mosaic).float() for of_mosaic in boxes]
            yield to_tensor(pictures), boxes, to_tensor(look_pictures), torch.tensor(np.stack(places)).float()


def search_loss(out: tuple[torch.Tensor, torch.Tensor], cells: torch.Tensor, all_boxes: list[torch.Tensor]):
    """Focal loss of the scores, and distance of the boxes over the side of the face."""
    stride = cells[:, 2:]
    low = torch.where(stride == 8, 0.0, 3.0 * stride)
    high = torch.where(stride == 32, torch.inf, 8.0 * stride)
    score_loss = box_loss = out[0].sum() * 0
    count = 0
    for logits, boxes, true_boxes in zip(*out, all_boxes, strict=True):
        target, weight = torch.zeros_like(logits), torch.ones_like(logits)
        if len(true_boxes):
            side = (true_boxes[:, 2:] - true_boxes[:, :2]).prod(dim=1).sqrt()
            middle = (true_boxes[:, 2:] + true_boxes[:, :2]) / 2
            distance = (cells[:, None, :2] - middle).abs().amax(dim=-1)
            right_size = (side >= low) & (side < high)
            hit = right_size & (distance < torch.maximum(0.18 * side, 0.75 * stride))
            # Between a clear yes and a clear no, the score is nobody's business.
            close = (distance < 0.35 * side) & (side >= low / 1.5) & (side < high * 1.5)
            weight[close.any(dim=1)] = 0
            weight[hit.any(dim=1)] = target[hit.any(dim=1)] = 1
            cell = hit.any(dim=1).nonzero()[:, 0]
            which = torch.where(hit, distance, torch.inf).argmin(dim=1)[cell]
            count += len(cell)
            box_loss = box_loss + ((boxes[cell] - true_boxes[which]).abs().mean(dim=1) / side[which]).sum()
        entropy = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
        score_loss = score_loss + (weight * (target - logits.sigmoid()) ** 2 * entropy).sum()
    count = max(count, 1)
    return score_loss / count, box_loss / count


class Both(nn.Module):
    """The two networks behind one forward, as data parallel training needs it."""

    def __init__(self, detector: FaceDetector):
        super().__init__()
        self.detector = detector

    def forward(self, pictures: torch.Tensor, looks: torch.Tensor):
        return self.detector(pictures), self.detector.landmark_network(looks).unflatten(-1, (5, 2))


def main() -> None:
    args = parse_args()
    cv2.setNumThreads(1)
    accelerator = Accelerator()
    set_seed(args.seed)
    portraits = make_portraits(args)
    accelerator.print(f"{len(portraits)} portraits labelled by the teacher")

    model = Both(FaceDetector() if args.init is None else FaceDetector.from_pretrained(args.init)).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=args.learning_rate, weight_decay=1e-4)
    # Not prepared, as accelerate would step it once for every process.
    scheduler = get_cosine_schedule_with_warmup(optimizer, 100, args.max_train_steps)
    model, optimizer = accelerator.prepare(model, optimizer)
    detector = accelerator.unwrap_model(model).detector
    examples = Examples(portraits, args, detector.config.landmark_size, accelerator.process_index)
    # Not prepared: every process makes its own examples, there is nothing to share out.
    loader = torch.utils.data.DataLoader(examples, batch_size=None, num_workers=args.num_workers)
    cells = detector.cells(args.canvas, args.canvas).to(accelerator.device)

    start, sums = time.time(), torch.zeros(3)
    for step, batch in zip(range(1, args.max_train_steps + 1), loader, strict=False):
        pictures, boxes, looks, places = send_to_device(batch, accelerator.device)
        out, placed = model(pictures, looks)
        score, box = search_loss(out, cells, boxes)
        look = (placed - places).abs().mean()
        accelerator.backward(score + 5 * box + 20 * look)
        accelerator.clip_grad_norm_(model.parameters(), 5.0)
        optimizer.step()
        scheduler.step()
        optimizer.zero_grad()

        sums += torch.stack([score, box, look]).detach().cpu()
        if step % 50 == 0:
            names = ("score", "box", "look")
            shown = " ".join(f"{name} {mean:.4f}" for name, mean in zip(names, (sums / 50).tolist(), strict=True))
            sums.zero_()
            accelerator.print(f"step {step} {shown} {(time.time() - start) / step:.2f} s/step", flush=True)
        if accelerator.is_main_process and (step % args.save_steps == 0 or step == args.max_train_steps):
            copy.deepcopy(detector).to(torch.float16).save_pretrained(args.output_dir)
    accelerator.end_training()


if __name__ == "__main__":
    main()
