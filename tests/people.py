"""A composed video of three people who enter, cross, hide and leave, with the true place of every face.

Talking heads are cut out of sharp clips with a soft matte, walk in front of blurred backgrounds, and the result is
degraded.

    scene 1   A stands behind a counter from the start; B enters from the left and C from the right; they cross, C in
              front of B; C leaves to the left, B stays
    scene 2   C stands; A walks behind a pillar, is hidden for exactly 24 frames, and returns
    scene 3   empty; B enters from the left, stops, leaves to the right; empty

Lengths are in pixels of the video, times in frames.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice

import cv2
import numpy as np

from keep_hf.degrade import Degradation, degrade_frames
from keep_hf.faces.yunet import YuNet
from keep_hf.video.reader import VideoReader
from paths import SHARED


CLIPS = SHARED / "media" / "hq_eval"
YUNET = SHARED / "weights" / "yunet_n_dynamic.onnx"

WIDTH, HEIGHT, FRAME_RATE = 480, 270, 24
LENGTHS = (121, 110, 124)
HIDDEN = 24  # frames for which A is behind the pillar of scene 2
CLIP_LENGTH = 49  # frames of each talking head, played forwards and backwards
DEGRADATION = Degradation(
    blur_sigma=(0.6, 0.6), kernel_size=5, noise_sigma=(1.0, 2.0), grey_noise_probability=0.5, scale=1, crf=(24, 24)
)

COUNTER_TOP = 140
PILLAR = (200, 310)  # left and right


@dataclass(frozen=True)
class Face:
    """The true place of a face in a frame, whether it is visible or not.

    Args:
        box (`np.ndarray` of shape `(4,)`): Left, top, right and bottom; may lie outside of the frame.
        visible (`float`): Part of the box that is inside the frame and not covered, 0 to 1.
    """

    box: np.ndarray
    visible: float


@dataclass(frozen=True)
class PeopleVideo:
    """The video and its ground truth.

    Args:
        frames (`np.ndarray` of shape `(t, h, w, 3)`): RGB, uint8.
        cuts (`list[int]`): First frames of the second and of the third scene.
        faces (`list[dict[str, Face]]`): Per frame the faces of the people in its scene, by name: A, B, C.
        empty (`list[int]`): Frames without a single pixel of a person.
    """

    frames: np.ndarray
    cuts: list[int]
    faces: list[dict[str, Face]]
    empty: list[int]


class Actor:
    """A talking head, cut out of a clip: images, mattes and boxes of the face, relative to the standing place.

    The standing place is the mean centre of the face along x, and the lower border of the clip along y.
    """

    def __init__(self, clip: str, face_height: float) -> None:
        with VideoReader(CLIPS / clip) as reader:
            frames = [frame.image for frame in islice(reader, CLIP_LENGTH)]
        detector = YuNet.from_pretrained(YUNET)
        left, _, right, _ = box = largest_box(detector, frames[0])
        scale = face_height / (box[3] - box[1])
        centre, reach = (left + right) / 2, 1.9 * face_height / scale
        start, end = (int(np.clip(side, 0, frames[0].shape[1])) for side in (centre - reach, centre + reach))
        size = (round((end - start) * scale), round(frames[0].shape[0] * scale))
        self.images = [cv2.resize(frame[:, start:end], size, interpolation=cv2.INTER_AREA) for frame in frames]
        self.boxes = np.array([largest_box(detector, image) for image in self.images])
        self.stand = np.array([self.boxes[:, [0, 2]].mean(), size[1]])
        self.mattes = [self._draw_matte(box, size) for box in smooth(self.boxes)]

    def _draw_matte(self, box: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        """Head and shoulders, two soft ellipses that follow the face."""
        height = np.median(self.boxes[:, 3] - self.boxes[:, 1])
        x, y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
        matte = np.zeros(size[::-1], np.float32)
        for lower, wide, tall in ((-0.1, 0.62, 0.8), (1.9, 1.15, 1.35)):
            centre = (round(x), round(y + lower * height))
            cv2.ellipse(matte, centre, (round(wide * height), round(tall * height)), 0, 0, 360, 1.0, -1)
        return cv2.GaussianBlur(matte, (0, 0), 0.05 * height)

    def index(self, time: int) -> int:
        """Frame of the clip at a time; the clip is repeated forwards and backwards."""
        last = len(self.images) - 1
        return last - abs(last - time % (2 * last))

    def box(self, time: int, place: tuple[float, float]) -> np.ndarray:
        """Box of the face for a standing place in the video."""
        return self.boxes[self.index(time)] + np.tile(np.array(place) - self.stand, 2)

    def draw(self, time: int, place: tuple[float, float]) -> tuple[np.ndarray, np.ndarray, tuple[slice, slice]]:
        """Image and matte for a standing place in the video, and the rows and columns that they cover."""
        index, shift = self.index(time), np.array(place) - self.stand
        # Whole pixels are shifted by slicing, the rest by interpolation.
        column, row = whole = np.floor(shift).astype(int)
        matrix = np.array([[1, 0, shift[0] - column], [0, 1, shift[1] - row]])
        size = self.images[index].shape[1::-1]
        image = cv2.warpAffine(self.images[index], matrix, size, borderMode=cv2.BORDER_REPLICATE)
        matte = cv2.warpAffine(self.mattes[index], matrix, size)
        left, top = np.clip(-whole, 0, size)
        right, bottom = np.clip((WIDTH, HEIGHT) - whole, 0, size)
        inside = (slice(top, bottom), slice(left, right))
        return image[inside], matte[inside], (slice(top + row, bottom + row), slice(left + column, right + column))


@dataclass
class Part:
    """The part of a person in a scene: name, first frame of the clip, and standing place by frame."""

    name: str
    start: int
    place: Callable[[int], tuple[float, float]]


@dataclass
class Board:
    """An object that covers what is behind it."""

    rows: slice
    columns: slice
    image: np.ndarray


def largest_box(detector: YuNet, image: np.ndarray) -> np.ndarray:
    return max(detector.detect([image])[0].boxes.astype(np.float64), key=lambda box: box[3] - box[1])


def smooth(boxes: np.ndarray) -> np.ndarray:
    """Smooth along time."""
    return cv2.GaussianBlur(boxes, (1, 0), sigmaX=0.1, sigmaY=4, borderType=cv2.BORDER_REPLICATE)


def walk(*marks: tuple[float, float], y: float) -> Callable[[int], tuple[float, float]]:
    """Walk through marks (frame, x) with soft starts and stops; the head moves up and down with the steps."""
    times, places = np.array(marks, np.float64).T
    dense = np.arange(times[0] - 40, times[-1] + 40)
    x = cv2.GaussianBlur(np.interp(dense, times, places), (1, 0), sigmaX=0.1, sigmaY=2.5).ravel()
    path = np.cumsum(np.abs(np.gradient(x)))

    def place(time: int) -> tuple[float, float]:
        return float(np.interp(time, dense, x)), y + 1.5 * float(np.sin(np.interp(time, dense, path) / 12.5))

    return place


def blurred_background(clip: str, left: int, right: int) -> np.ndarray:
    """Columns of a clip without people, stretched to the size of the video and blurred."""
    with VideoReader(CLIPS / clip) as reader:
        strip = next(iter(reader)).image[:, left:right]
    wide = cv2.resize(np.concatenate([strip, strip[:, ::-1]], axis=1), (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA)
    return cv2.GaussianBlur(wide, (0, 0), 3.5)


def wooden_board(seed: int, colour: tuple[int, int, int], rows: slice, columns: slice) -> Board:
    """A board with grain along its longer side."""
    height, width = rows.stop - rows.start, columns.stop - columns.start
    noise = np.random.default_rng(seed).normal(0, 1, (height, width)).astype(np.float32)
    along, across = (12, 1) if width > height else (1, 12)
    grain = cv2.GaussianBlur(noise, (0, 0), sigmaX=along, sigmaY=across) * 40
    return Board(rows, columns, np.clip(grain[..., None] + colour, 0, 255).astype(np.float32))


def draw_frame(
    background: np.ndarray, actors: dict[str, Actor], parts: list[Part | Board], time: int
) -> tuple[np.ndarray, dict[str, Face], bool]:
    """Draw one frame of a scene from back to front: the frame, the faces, and whether it is empty of people."""
    frame = background.astype(np.float32)
    boxes: dict[str, np.ndarray] = {}
    uncovered: dict[str, np.ndarray] = {}  # by person, the visible part of every pixel
    is_empty = True
    for part in parts:
        if isinstance(part, Part):
            position = part.start + time, part.place(time)
            image, matte, covered = actors[part.name].draw(*position)
            frame[covered] += matte[..., None] * (image - frame[covered])
            for visible in uncovered.values():
                visible[covered] *= 1 - matte
            boxes[part.name] = actors[part.name].box(*position)
            uncovered[part.name] = np.ones((HEIGHT, WIDTH), np.float32)
            is_empty = is_empty and not matte.any()
        else:
            frame[part.rows, part.columns] = part.image
            for visible in uncovered.values():
                visible[part.rows, part.columns] = 0
    faces = {}
    for name, box in boxes.items():
        left, top, right, bottom = np.round(box).astype(int)
        visible = uncovered[name][max(top, 0) : max(bottom, 0), max(left, 0) : max(right, 0)]
        faces[name] = Face(box, float(visible.sum()) / ((right - left) * (bottom - top)))
    return np.clip(np.rint(frame), 0, 255).astype(np.uint8), faces, is_empty


def walk_behind_the_pillar(actor: Actor) -> Part:
    """Walk behind the pillar, stay there so that the face is hidden for `HIDDEN` frames, and return."""
    behind = sum(PILLAR) / 2
    for stay in range(40):
        marks = ((0, 95), (25, 95), (42, behind), (42 + stay, behind), (59 + stay, 125), (110, 125))
        part = Part("A", 0, walk(*marks, y=HEIGHT))
        # How long the face is hidden depends on how the head is held, too.
        boxes = [np.round(actor.box(part.start + time, part.place(time))) for time in range(LENGTHS[1])]
        if sum(PILLAR[0] <= left and right <= PILLAR[1] for left, _, right, _ in boxes) == HIDDEN:
            return part
    raise AssertionError(f"no stay behind the pillar hides the face for {HIDDEN} frames")


def make_video() -> PeopleVideo:
    """Compose and degrade the video; takes about ten seconds on one core."""
    actors = {"A": Actor("talkvid_12.mp4", 57), "B": Actor("talkvid_10.mp4", 70), "C": Actor("talkvid_06.mp4", 78)}
    backgrounds = [
        blurred_background("talkvid_06.mp4", 0, 560),
        blurred_background("talkvid_09.mp4", 1400, 1920),
        blurred_background("talkvid_02.mp4", 1250, 1920),
    ]
    scenes: list[list[Part | Board]] = [
        [
            Part("A", 0, walk((0, 240), (121, 250), y=COUNTER_TOP + 5)),
            wooden_board(1, (196, 188, 176), slice(COUNTER_TOP, HEIGHT), slice(0, WIDTH)),
            Part("B", 0, walk((0, -150), (12, -130), (60, 165), (85, 320), (121, 350), y=HEIGHT + 30)),
            Part("C", 0, walk((0, 650), (15, 625), (60, 320), (75, 280), (118, -135), (121, -145), y=HEIGHT + 30)),
        ],
        [
            walk_behind_the_pillar(actors["A"]),
            wooden_board(2, (96, 92, 88), slice(0, HEIGHT), slice(*PILLAR)),
            Part("C", 60, walk((0, 395), (110, 387), y=HEIGHT)),
        ],
        [
            Part("B", 20, walk((0, -130), (4, -125), (44, 225), (52, 250), (86, 620), (124, 630), y=HEIGHT + 20)),
        ],
    ]

    frames: list[np.ndarray] = []
    faces: list[dict[str, Face]] = []
    empty: list[int] = []
    for background, parts, length in zip(backgrounds, scenes, LENGTHS, strict=True):
        for time in range(length):
            frame, truth, is_empty = draw_frame(background, actors, parts, time)
            if is_empty:
                empty.append(len(frames))
            frames.append(frame)
            faces.append(truth)
    degraded = degrade_frames(np.stack(frames), DEGRADATION, seed=0, frame_rate=FRAME_RATE)
    return PeopleVideo(degraded, np.cumsum(LENGTHS)[:-1].tolist(), faces, empty)
