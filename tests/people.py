"""A made film of three people who enter, cross, hide and leave, and the truth about every face in it.

Talking heads are cut out of sharp clips with a soft matte, walk before blurred rooms, and then the whole is degraded.

    scene 1   A stands behind a counter from the start; B enters from the left and C from the right; they cross, C in
              front of B; C leaves to the left, B stays
    scene 2   C stands; A walks behind a pillar, is hidden for exactly 24 frames, and comes back
    scene 3   nobody; B enters from the left, stops, leaves to the right; nobody
"""

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np

from keep_hf.degrade import Degradation, degrade_frames
from keep_hf.faces.yunet import YuNet
from keep_hf.video.reader import VideoReader
from paths import SHARED


CLIPS = SHARED / "media" / "hq_eval"
YUNET = SHARED / "weights" / "yunet_n_dynamic.onnx"

WIDTH, HEIGHT, FRAME_RATE = 960, 540, 24
LENGTHS = (121, 110, 124)
HIDDEN = 24  # frames for which A is behind the pillar of scene 2
DEGRADATION = Degradation(
    blur_sigma=(1.2, 1.2), kernel_size=9, noise_sigma=(2.0, 4.0), grey_noise_probability=0.5, scale=1, crf=(24, 24)
)

COUNTER_TOP = 280
PILLAR = (400, 620)  # left and right


@dataclass(frozen=True)
class Face:
    """Where the face of a person is in a frame, be it seen or not.

    Args:
        box (`np.ndarray` of shape `(4,)`): Left, top, right and bottom in pixels of the film; may lie outside of it.
        visible (`float`): Share of the box that is inside the picture and covered by nobody and nothing, 0 to 1.
    """

    box: np.ndarray
    visible: float


@dataclass(frozen=True)
class Film:
    """The film and the truth about it.

    Args:
        path (`Path`): Lossless video file.
        frames (`np.ndarray` of shape `(t, h, w, 3)`): What the file holds, uint8 RGB.
        cuts (`list[int]`): First frames of the second and of the third scene.
        faces (`list[dict[str, Face]]`): Per frame the faces of those who take part in its scene, by name: A, B, C.
        empty (`list[int]`): Frames without a single pixel of anybody.
    """

    path: Path
    frames: np.ndarray
    cuts: list[int]
    faces: list[dict[str, Face]]
    empty: list[int]

    def scene(self, index: int, folder: Path) -> Path:
        """Write one scene alone: the same pixels as in the film."""
        starts = [0, *self.cuts, len(self.frames)]
        return write_lossless(folder / f"scene_{index}.mkv", self.frames[starts[index] : starts[index + 1]])


class Actor:
    """A talking head, cut out of a clip: pictures, mattes and boxes of the face, all relative to the standing place.

    The standing place is the mean middle of the face along x, and the lower border of the clip along y.
    """

    def __init__(self, clip: str, face_height: float) -> None:
        with VideoReader(CLIPS / clip) as reader:
            frames = [frame.image for frame in reader]
        detector = YuNet(YUNET)
        left, _, right, _ = box = largest_box(detector, frames[0])
        scale = face_height / (box[3] - box[1])
        middle, reach = (left + right) / 2, 1.9 * face_height / scale
        start, end = (int(np.clip(side, 0, frames[0].shape[1])) for side in (middle - reach, middle + reach))
        size = (round((end - start) * scale), round(frames[0].shape[0] * scale))
        self.pictures = [cv2.resize(frame[:, start:end], size, interpolation=cv2.INTER_AREA) for frame in frames]
        self.boxes = np.array([largest_box(detector, picture) for picture in self.pictures])
        self.stand = np.array([self.boxes[:, [0, 2]].mean(), size[1]])
        self.mattes = [self._matte(box, size) for box in smooth(self.boxes)]

    def _matte(self, box: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        """Head and shoulders, two soft ellipses that follow the face."""
        height = np.median(self.boxes[:, 3] - self.boxes[:, 1])
        x, y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
        matte = np.zeros(size[::-1], np.float32)
        for lower, wide, tall in ((-0.1, 0.62, 0.8), (1.9, 1.15, 1.35)):
            middle = (round(x), round(y + lower * height))
            cv2.ellipse(matte, middle, (round(wide * height), round(tall * height)), 0, 0, 360, 1.0, -1)
        return cv2.GaussianBlur(matte, (0, 0), 0.05 * height)

    def at(
        self, time: int, place: tuple[float, float]
    ) -> tuple[np.ndarray, np.ndarray, tuple[slice, slice], np.ndarray]:
        """For a standing place in the film: picture and matte, the rows and columns where they lie, box of the face.

        The clip runs forwards and backwards without end.
        """
        last = len(self.pictures) - 1
        index = last - abs(last - time % (2 * last))
        shift = np.array(place) - self.stand
        # Whole pixels move by slicing, the rest by interpolation.
        column, row = whole = np.floor(shift).astype(int)
        matrix = np.array([[1, 0, shift[0] - column], [0, 1, shift[1] - row]])
        size = self.pictures[index].shape[1::-1]
        picture = cv2.warpAffine(self.pictures[index], matrix, size, borderMode=cv2.BORDER_REPLICATE)
        matte = cv2.warpAffine(self.mattes[index], matrix, size)
        left, top = np.clip(-whole, 0, size)
        right, bottom = np.clip((WIDTH, HEIGHT) - whole, 0, size)
        inside = (slice(top, bottom), slice(left, right))
        there = (slice(top + row, bottom + row), slice(left + column, right + column))
        return picture[inside], matte[inside], there, self.boxes[index] + np.tile(shift, 2)


@dataclass
class Part:
    """What somebody does in a scene: who, from which frame of the clip on, and the standing place per frame."""

    name: str
    start: int
    place: Callable[[int], tuple[float, float]]


def largest_box(detector: YuNet, picture: np.ndarray) -> np.ndarray:
    return max(detector.detect([picture])[0].boxes.astype(np.float64), key=lambda box: box[3] - box[1])


@dataclass
class Board:
    """Something that stands there and hides what is behind it."""

    rows: slice
    columns: slice
    picture: np.ndarray


def smooth(boxes: np.ndarray) -> np.ndarray:
    """Smooth along time."""
    return cv2.GaussianBlur(boxes, (1, 0), sigmaX=0.1, sigmaY=4, borderType=cv2.BORDER_REPLICATE)


def walk(*marks: tuple[float, float], y: float) -> Callable[[int], tuple[float, float]]:
    """Walk through the marks (frame, x), softly started and stopped; the head goes up and down with the steps."""
    times, places = np.array(marks, np.float64).T
    dense = np.arange(times[0] - 40, times[-1] + 40)
    x = cv2.GaussianBlur(np.interp(dense, times, places), (1, 0), sigmaX=0.1, sigmaY=2.5).ravel()
    path = np.cumsum(np.abs(np.gradient(x)))

    def place(time: int) -> tuple[float, float]:
        return float(np.interp(time, dense, x)), y + 3 * float(np.sin(np.interp(time, dense, path) / 25))

    return place


def room(clip: str, left: int, right: int) -> np.ndarray:
    """An out-of-focus room: columns of a clip where nobody is, stretched to the size of the film."""
    with VideoReader(CLIPS / clip) as reader:
        strip = next(iter(reader)).image[:, left:right]
    wide = cv2.resize(np.concatenate([strip, strip[:, ::-1]], axis=1), (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA)
    return cv2.GaussianBlur(wide, (0, 0), 7)


def wood(seed: int, colour: tuple[int, int, int], rows: slice, columns: slice) -> Board:
    """A board with grain along its longer side."""
    height, width = rows.stop - rows.start, columns.stop - columns.start
    noise = np.random.default_rng(seed).normal(0, 1, (height, width)).astype(np.float32)
    along, across = (25, 1) if width > height else (1, 25)
    grain = cv2.GaussianBlur(noise, (0, 0), sigmaX=along, sigmaY=across) * 40
    return Board(rows, columns, np.clip(grain[..., None] + colour, 0, 255).astype(np.float32))


def stage(
    background: np.ndarray, actors: dict[str, Actor], parts: list[Part | Board], time: int
) -> tuple[np.ndarray, dict[str, Face], bool]:
    """Paint one frame of a scene from back to front: the frame, the faces, and whether it is empty of people."""
    frame = background.astype(np.float32)
    boxes: dict[str, np.ndarray] = {}
    shows: dict[str, np.ndarray] = {}  # per person and pixel how much of it is seen
    anybody = False
    for part in parts:
        if isinstance(part, Part):
            picture, matte, there, box = actors[part.name].at(part.start + time, part.place(time))
            frame[there] += matte[..., None] * (picture - frame[there])
            for seen in shows.values():
                seen[there] *= 1 - matte
            boxes[part.name], shows[part.name] = box, np.ones((HEIGHT, WIDTH), np.float32)
            anybody = anybody or bool(matte.any())
        else:
            frame[part.rows, part.columns] = part.picture
            for seen in shows.values():
                seen[part.rows, part.columns] = 0
    faces = {}
    for name, box in boxes.items():
        left, top, right, bottom = np.round(box).astype(int)
        seen = shows[name][max(top, 0) : max(bottom, 0), max(left, 0) : max(right, 0)]
        faces[name] = Face(box, float(seen.sum()) / ((right - left) * (bottom - top)))
    return np.clip(np.rint(frame), 0, 255).astype(np.uint8), faces, not anybody


def write_lossless(path: Path, frames: np.ndarray) -> Path:
    """A file that decodes to exactly these frames."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264rgb", rate=FRAME_RATE, options={"qp": "0", "preset": "ultrafast"})
        stream.height, stream.width, stream.pix_fmt = *frames.shape[1:3], "rgb24"
        for index, image in enumerate(frames):
            picture = av.VideoFrame.from_ndarray(image, format="rgb24")
            picture.pts, picture.time_base = index, Fraction(1, FRAME_RATE)
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))
    return path


def make_film(folder: Path) -> Film:
    """Make the film and write it to `folder / "film.mkv"`; takes most of a minute on one core."""
    actors = {"A": Actor("talkvid_12.mp4", 114), "B": Actor("talkvid_10.mp4", 140), "C": Actor("talkvid_06.mp4", 155)}
    counter = wood(1, (196, 188, 176), slice(COUNTER_TOP, HEIGHT), slice(0, WIDTH))
    pillar = wood(2, (96, 92, 88), slice(0, HEIGHT), slice(*PILLAR))

    def walk_of_a(stay: int) -> Part:
        """Behind the pillar, a stay there of so many frames, and back."""
        behind = sum(PILLAR) / 2
        marks = ((0, 190), (25, 190), (42, behind), (42 + stay, behind), (59 + stay, 250), (110, 250))
        return Part("A", 40, walk(*marks, y=HEIGHT))

    def hidden(part: Part) -> int:
        """For how many frames the face is behind the pillar; depends on how A holds the head, too."""
        boxes = [np.round(actors["A"].at(part.start + time, part.place(time))[3]) for time in range(LENGTHS[1])]
        return sum(PILLAR[0] <= left and right <= PILLAR[1] for left, _, right, _ in boxes)

    rooms = [room("talkvid_06.mp4", 0, 560), room("talkvid_09.mp4", 1400, 1920), room("talkvid_02.mp4", 1250, 1920)]
    scenes: list[list[Part | Board]] = [
        [
            Part("A", 0, walk((0, 480), (121, 500), y=COUNTER_TOP + 10)),
            counter,
            Part("B", 0, walk((0, -300), (12, -260), (60, 330), (85, 640), (121, 700), y=HEIGHT + 60)),
            Part("C", 0, walk((0, 1300), (15, 1250), (60, 640), (75, 560), (118, -270), (121, -290), y=HEIGHT + 60)),
        ],
        [
            next(part for part in map(walk_of_a, range(40)) if hidden(part) == HIDDEN),
            pillar,
            Part("C", 60, walk((0, 790), (110, 775), y=HEIGHT)),
        ],
        [
            Part("B", 20, walk((0, -260), (4, -250), (44, 450), (52, 500), (86, 1240), (124, 1260), y=HEIGHT + 40)),
        ],
    ]

    frames: list[np.ndarray] = []
    faces: list[dict[str, Face]] = []
    empty: list[int] = []
    for background, parts, length in zip(rooms, scenes, LENGTHS, strict=True):
        for time in range(length):
            frame, seen, nobody = stage(background, actors, parts, time)
            if nobody:
                empty.append(len(frames))
            frames.append(frame)
            faces.append(seen)
    degraded = degrade_frames(np.stack(frames), DEGRADATION, seed=0, frame_rate=FRAME_RATE)
    cuts = np.cumsum(LENGTHS)[:-1].tolist()
    return Film(write_lossless(folder / "film.mkv", degraded), degraded, cuts, faces, empty)
