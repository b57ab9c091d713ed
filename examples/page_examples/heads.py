"""People for the example clips: a portrait whose head turns, blinks and talks, and variations of it.

The portrait shows Eileen Collins (NASA, public domain); scikit-image includes it. Motion and variations are warps of
this one image, so they need no 3D model: a point of the head moves in proportion to its depth, which is that of an
ellipsoid.
"""

from dataclasses import dataclass

import cv2
import numpy as np
import skimage.data


# Places in the portrait, in pixels.
EYES = ((203.5, 100.2), (247.5, 103.2))
MOUTH = (223.5, 143.5)
FACE = (226.0, 118.0)  # centre of the face
HEAD = (227.0, 105.0)  # centre of the head
HEAD_RADII = (76.0, 92.0)
CHIN = 186
HEIGHT = 216  # rows of the portrait that contain head and collar
# Ears, jaw, neck and collar.
JAW = np.array(
    [
        *[(171, 116), (175, 127), (180, 131), (183, 133), (184, 143), (186, 153), (186, 170), (188, 178), (186, 206)],
        *[(257, 206), (254, 184), (254, 179), (256, 170), (258, 160), (265, 149), (267, 138), (275, 135), (280, 129)],
        (280, 112),
    ]
)


@dataclass(frozen=True)
class Pose:
    """The pose of a head in a frame.

    Args:
        yaw, pitch (`float`): Rotation to the side and downwards, in radians.
        roll (`float`): Rotation in the image plane, in degrees.
        blink (`float`): How far the eyes are closed, 0 to 1.
        talk (`float`): How far the jaw is open, in pixels of the portrait.
    """

    yaw: float = 0.0
    pitch: float = 0.0
    roll: float = 0.0
    blink: float = 0.0
    talk: float = 0.0


def pose_at(seconds: float, seed: int, blinks: tuple[float, ...], motion: float = 1.0) -> Pose:
    """The pose of somebody who talks, at a time: slow sways of different periods, and blinks at given times."""
    phases = np.random.default_rng(seed).uniform(0, 2 * np.pi, 8)

    def sway(number: int, *periods: float) -> float:
        waves = [np.sin(2 * np.pi * seconds / period + phases[number + i]) for i, period in enumerate(periods)]
        return motion * float(np.mean(waves))

    closed = max((1 - abs(seconds - time) / 0.13 for time in blinks), default=0.0)
    syllables = np.sin(2 * np.pi * seconds / 0.29 + phases[6]) * np.sin(2 * np.pi * seconds / 1.3 + phases[7])
    return Pose(
        yaw=0.17 * sway(0, 3.1, 1.7),
        pitch=0.09 * sway(2, 2.3, 1.1),
        roll=3.5 * sway(4, 3.7, 1.9),
        blink=float(np.clip(1.6 * closed, 0, 1)),
        talk=motion * 2.4 * max(float(syllables), 0.0),
    )


def warp_head(image: np.ndarray, pose: Pose) -> np.ndarray:
    """Move the head of an image in the coordinates of the portrait.

    Args:
        image (`np.ndarray` of shape `(h, 512, c)`): The portrait, or a matte of it.
        pose ([`Pose`]): The pose.
    """
    height, width = image.shape[:2]
    y, x = np.mgrid[:height, :width].astype(np.float32)
    # The depth of an ellipsoid, with the nose in front of it; soft borders, so that hair and background stretch.
    radius = np.hypot((x - HEAD[0]) / HEAD_RADII[0], (y - HEAD[1]) / HEAD_RADII[1])
    depth = 62 * np.sqrt(np.clip(1 - (radius / 1.25) ** 2, 0, None)) * np.clip((1.25 - radius) / 0.5, 0, 1)
    depth += 13 * np.exp(-(((x - 224) / 9) ** 2) - ((y - 122) / 13) ** 2)
    source_x = x - depth * np.sin(pose.yaw)
    source_y = y - depth * np.sin(pose.pitch)
    # Roll around the neck, fading out towards shoulders and background.
    fade = np.clip((1.9 - radius) / 0.9, 0, 1) * np.clip((215 - y) / 40, 0, 1)
    angle = np.radians(pose.roll) * fade
    offset_x, offset_y = source_x - HEAD[0], source_y - 190
    source_x = HEAD[0] + np.cos(angle) * offset_x + np.sin(angle) * offset_y
    source_y = 190 - np.sin(angle) * offset_x + np.cos(angle) * offset_y
    source_y = _open_jaw(source_x, source_y, pose.talk)
    for eye in EYES:
        source_y = _close_eye(source_x, source_y, eye, pose.blink)
    return cv2.remap(
        image, np.float32(source_x), np.float32(source_y), cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE
    )


def _open_jaw(x: np.ndarray, y: np.ndarray, opening: float) -> np.ndarray:
    """Rows from which the lower face is read when the jaw opens by a number of pixels."""
    window = np.exp(-(((x - MOUTH[0]) / 34) ** 4))
    below = np.clip((y - MOUTH[1]) / 6, 0, 1) * np.clip((CHIN + 12 - y) / 40, 0, 1)
    return y - opening * window * below


def _close_eye(x: np.ndarray, y: np.ndarray, eye: tuple[float, float], closed: float) -> np.ndarray:
    """Rows from which an eye is read: the skin above it is stretched downwards over it."""
    half, reach = 4.4, 5.0  # of the eye opening, and of the skin above it
    window = np.clip(1.15 - ((x - eye[0]) / 13) ** 2, 0, 1)
    top = eye[1] - half
    lid = top + closed * 1.7 * half * window
    above = np.clip((y - (top - reach)) / np.maximum(lid - (top - reach), 1e-3), 0, 1)
    stretched = (top - reach) + above * reach
    inside = (y > top - reach) & (y < lid) & (window > 0)
    return np.where(inside, stretched, y)


def head_matte() -> np.ndarray:
    """The matte of head and neck, without the space suit: float32 `(216, 512)` in [0, 1]."""
    portrait = skimage.data.astronaut()[:HEIGHT]
    labels = np.full(portrait.shape[:2], cv2.GC_BGD, np.uint8)
    for centre, radii, label in (
        ((227, 95), (84, 92), cv2.GC_PR_BGD),
        ((227, 88), (72, 75), cv2.GC_PR_FGD),
        ((226, 105), (46, 70), cv2.GC_FGD),
        ((228, 62), (58, 38), cv2.GC_FGD),
    ):
        cv2.ellipse(labels, centre, radii, 0, 0, 360, int(label), cv2.FILLED)
    cv2.setRNGSeed(0)
    models = np.zeros((1, 65)), np.zeros((1, 65))
    cv2.grabCut(np.ascontiguousarray(portrait[..., ::-1]), labels, None, *models, 6, cv2.GC_INIT_WITH_MASK)
    matte = np.isin(labels, (cv2.GC_FGD, cv2.GC_PR_FGD)).astype(np.float32)
    matte[116:] = 0
    # GrabCut is reliable for the hair only: it takes bright background for the neck.
    hair = np.isin(labels, (cv2.GC_FGD, cv2.GC_PR_FGD)).astype(np.float32)
    hair[128:] = 0
    hair[:, 180:262] = 0
    below = np.zeros_like(matte)
    cv2.fillPoly(below, [JAW], 1.0)
    matte = cv2.erode(np.maximum.reduce([matte, hair, below]), np.ones((3, 3), np.uint8))
    return cv2.GaussianBlur(matte, (0, 0), 0.9)


@dataclass(frozen=True)
class Variation:
    """Another person, made from the portrait.

    Args:
        mirrored (`bool`): Left and right are exchanged.
        jaw (`float`): Width of the lower half of the face, relative to the portrait.
        length (`float`): Length of the lower half of the face.
        nose (`float`): Width of the nose.
        eyes (`float`): Size of the eyes.
        skin (`tuple[float, float, float]`): Factors of red, green and blue of the skin.
        hair (`tuple[float, float, float]`): The same for the hair.
    """

    mirrored: bool = False
    jaw: float = 1.0
    length: float = 1.0
    nose: float = 1.0
    eyes: float = 1.0
    skin: tuple[float, float, float] = (1.0, 1.0, 1.0)
    hair: tuple[float, float, float] = (1.0, 1.0, 1.0)


class Person:
    """Head and neck of a person in the coordinates of the portrait.

    Args:
        variation ([`Variation`]): How the person differs from the portrait.
    """

    def __init__(self, variation: Variation) -> None:
        self.variation = variation
        portrait = skimage.data.astronaut()[:HEIGHT].astype(np.float32)
        hair = hair_matte(portrait)[..., None]
        factors = hair * np.array(variation.hair) + (1 - hair) * np.array(variation.skin)
        changed = portrait * factors
        self.image = np.clip(self._reshape(changed), 0, 255).astype(np.float32)
        self.matte = self._reshape(head_matte())

    def _reshape(self, image: np.ndarray) -> np.ndarray:
        """Apply the changes of shape."""
        change = self.variation
        y, x = np.mgrid[:HEIGHT, :512].astype(np.float32)
        lower = np.clip((y - 112) / 30, 0, 1) * np.clip((200 - y) / 25, 0, 1)
        source_x = x + (x - 223) * (1 / change.jaw - 1) * lower
        stretched = np.clip((y - 125) / 45, 0, 1) * np.clip((205 - y) / 25, 0, 1)
        source_y = y - 45 * (change.length - 1) * stretched
        places = [((224, 124), (13, 12), change.nose, 1.0)]
        places += [(eye, (15, 10), change.eyes, change.eyes) for eye in EYES]
        for (centre_x, centre_y), (wide, tall), factor_x, factor_y in places:
            window = np.exp(-(((x - centre_x) / wide) ** 2 + ((y - centre_y) / tall) ** 2))
            source_x += (x - centre_x) * (1 / factor_x - 1) * window
            source_y += (y - centre_y) * (1 / factor_y - 1) * window
        return cv2.remap(image, np.float32(source_x), np.float32(source_y), cv2.INTER_CUBIC)

    def draw(self, pose: Pose) -> tuple[np.ndarray, np.ndarray]:
        """Image (216, 512, 3) in [0, 255] and matte (216, 512) in [0, 1] of a pose."""
        image, matte = warp_head(self.image, pose), warp_head(self.matte, pose)
        if self.variation.mirrored:
            image, matte = image[:, ::-1], matte[:, ::-1]
        return np.clip(image, 0, 255), np.clip(matte, 0, 1)


def hair_matte(portrait: np.ndarray) -> np.ndarray:
    """Where the portrait shows hair: it is more saturated than the skin around them. In [0, 1]."""
    highest, lowest = portrait.max(axis=2), portrait.min(axis=2)
    saturation = (highest - lowest) / np.maximum(highest, 1)
    hair = np.float32(np.clip((saturation - 0.38) / 0.08, 0, 1))
    y, x = np.mgrid[:HEIGHT, :512]
    hair[y < 62] = 1
    hair[(x > 183) & (x < 264) & (y > 82)] = 0  # lips, and shadows of nose and chin
    hair[y > 140] = 0
    hair = cv2.morphologyEx(hair, cv2.MORPH_CLOSE, np.ones((11, 11), np.uint8))  # highlights
    return cv2.GaussianBlur(hair, (0, 0), 1.2)
