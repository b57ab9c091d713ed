"""Alignment and paste-back: landmarks to a similarity transform, frame to aligned crop, restored crop to frame.

The template and the robust fit are the published ones.  A crop is equal to that of the published script, bit for bit,
wherever the face is not much larger in the frame than in the crop.  Four things differ:

 - A face that shrinks, when it is cropped or pasted back, is averaged over areas.  Sampled at points it would alias.
 - A face that grows when it is pasted back is interpolated with cubics.
 - The mask of the paste is a function of the coordinates of the crop instead of eroded pixels, so that it has the same
   shape at every size of the face.
 - A restored face takes the mean colour of its crop, within narrow limits.

All coordinates are (x, y) in pixels, 0 at the centre of the first pixel.
"""

from functools import cache

import cv2
import numpy as np


# Left eye, right eye, nose, left and right mouth corner, as the viewer sees them, in pixels of a 512x512 crop.
TEMPLATE = np.array(
    [
        (192.98138, 239.94708),
        (318.90277, 240.1936),
        (256.63416, 314.01935),
        (201.26117, 371.41043),
        (313.08905, 371.15118),
    ]
)
TEMPLATE_SIZE = 512
BORDER_COLOUR = (132, 133, 135)
# Below this many source pixels per target pixel, interpolation reads every source pixel often enough.
LINEAR_LIMIT = 1.5
# The mask is 1 up to the first radius and 0 from the second radius on, in half sides of the crop. A correction that is
# added to the frame leaves no seam, even if it ends more steeply.
FACE_RADII = (0.70, 0.97)
CORRECTION_RADII = (0.88, 0.99)
# Largest change of the mean colour of a pasted face, in levels of 255
COLOUR_LIMIT = 12.0
MIN_LANDMARK_SPREAD = 4.0  # pixels; the direction and the size of smaller faces are not known


def estimate_alignment(landmarks: np.ndarray, size: int = TEMPLATE_SIZE) -> np.ndarray:
    """Estimate the similarity transform that moves a face in a frame to its place in an aligned crop.

    The fit is a least median of squares: one wrong landmark of the five does not change it.

    Args:
        landmarks (`np.ndarray` of shape `(5, 2)`):
            Eyes, nose and mouth corners in pixels of the frame, from left to right as the viewer sees them.
        size (`int`, defaults to 512):
            Side of the crop in pixels.

    Returns:
        `np.ndarray` of shape `(2, 3)`, float64: the transform from frame pixels to crop pixels.

    Raises:
        ValueError: If the landmarks are not five finite points, or lie too close together for a fit.
    """
    landmarks = np.asarray(landmarks, dtype=np.float64)
    if landmarks.shape != (5, 2):
        raise ValueError(f"landmarks must have the shape (5, 2), got {landmarks.shape}: pass one face at a time.")
    if not np.isfinite(landmarks).all():
        raise ValueError(f"landmarks must be finite, got {landmarks.tolist()}: fill gaps of a track before aligning.")
    if np.ptp(landmarks, axis=0).max() < 1:
        raise ValueError(
            f"landmarks lie within one pixel of each other, got {landmarks.tolist()}: leave out this face."
        )
    # Fitted at 512 and scaled afterwards, so that the choice of outliers does not depend on the size of the crop.
    matrix = cv2.estimateAffinePartial2D(landmarks, TEMPLATE, method=cv2.LMEDS)[0]
    if matrix is None or not np.isfinite(matrix).all() or _scale(matrix) < 1e-3:
        raise ValueError(f"no similarity transform fits the landmarks {landmarks.tolist()}: leave out this face.")
    return matrix * (size / TEMPLATE_SIZE)


def can_be_aligned(landmarks: np.ndarray) -> bool:
    """Return whether landmarks `(5, 2)`, in pixels of the frame, lie far enough apart for [`estimate_alignment`]."""
    return bool(np.ptp(landmarks, axis=0).max() >= MIN_LANDMARK_SPREAD)


def crop_side(landmarks: np.ndarray) -> float:
    """Return the side of the aligned crop in pixels of the frame, from the spread of the landmarks `(5, 2)`."""
    return float(TEMPLATE_SIZE * np.sqrt(landmarks.var(axis=0).sum() / TEMPLATE.var(axis=0).sum()))


def crop_face(image: np.ndarray, matrix: np.ndarray, size: int = TEMPLATE_SIZE) -> np.ndarray:
    """Cut an aligned face out of a frame.

    Args:
        image (`np.ndarray` of shape `(height, width, 3)`):
            RGB frame, uint8.
        matrix (`np.ndarray` of shape `(2, 3)`):
            Transform from frame pixels to crop pixels, see [`estimate_alignment`].
        size (`int`, defaults to 512):
            Side of the crop in pixels for which `matrix` was estimated.

    Returns:
        `np.ndarray` of shape `(size, size, 3)`, uint8: the crop; pixels outside the frame are `BORDER_COLOUR`.
    """
    shrink = 1 / _scale(matrix)
    # A face that shrinks is warped to a finer grid and averaged over its cells.
    fine = 1 if shrink < LINEAR_LIMIT else int(np.ceil(shrink))
    # The centre of target pixel x lies at fine * x + (fine - 1) / 2 of the finer grid.
    matrix = matrix * fine + np.array([(0, 0, 1), (0, 0, 1)]) * (fine - 1) / 2
    crop = cv2.warpAffine(
        image,
        matrix,
        (size * fine, size * fine),
        flags=cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_CONSTANT,
        borderValue=BORDER_COLOUR,
    )
    return crop if fine == 1 else cv2.resize(crop, (size, size), interpolation=cv2.INTER_AREA)


def colour_offset(crop: np.ndarray, face: np.ndarray, mask: np.ndarray | None = None) -> np.ndarray:
    """Compute the difference between the mean colours of a crop and of the restored face.

    There is one offset for each channel: a mean over the whole face changes slowly, a match of details would flicker.
    The caller may smooth the offsets along time before they are passed to [`paste_face`].

    Args:
        crop (`np.ndarray` of shape `(size, size, 3)`):
            RGB crop of the frame, uint8; pixels outside the frame do not count.
        face (`np.ndarray` of shape `(size, size, 3)`):
            RGB restored crop, uint8.
        mask (`np.ndarray` of shape `(size, size)`, *optional*):
            Weight of each pixel of the crop as face, float32 from 0 to 1.

    Returns:
        `np.ndarray` of shape `(3,)`, float32: for red, green and blue, in levels of 255, from -12 to 12.
    """
    weight = np.where(cv2.inRange(crop, BORDER_COLOUR, BORDER_COLOUR), 0, _crop_mask(len(crop), FACE_RADII))
    if mask is not None:
        weight = weight * mask
    difference = cv2.subtract(crop, face, dtype=cv2.CV_32F)
    offset = weight.reshape(-1) @ difference.reshape(-1, 3) / max(float(weight.sum()), 1e-6)
    return np.clip(offset, -COLOUR_LIMIT, COLOUR_LIMIT)


def paste_face(
    image: np.ndarray,
    face: np.ndarray,
    matrix: np.ndarray,
    strength: float = 1.0,
    offset: np.ndarray | None = None,
    mask: np.ndarray | None = None,
    crop: np.ndarray | None = None,
) -> None:
    """Paste an aligned face into its frame, or into a part of it, under a soft mask, in place.

    Pixels outside the mask are unchanged. With `crop` only the difference of face and crop is added, so that the frame
    keeps detail that the crop, which may be smaller, does not have.

    Args:
        image (`np.ndarray` of shape `(height, width, 3)`):
            RGB frame, uint8, or float32 in levels of 255; it is modified. In float32 nothing is rounded or clipped.
        face (`np.ndarray` of shape `(size, size, 3)`):
            RGB crop, uint8, or float32 in levels of 255.
        matrix (`np.ndarray` of shape `(2, 3)`):
            Transform from frame pixels to crop pixels with which the crop was cut out.
        strength (`float`, defaults to 1.0):
            Weight of the face against the frame, from 0 (only the frame) to 1.
        offset (`np.ndarray` of shape `(3,)`, *optional*):
            Added to the colour of the face, in levels of 255; defaults to [`colour_offset`] of crop and face.
        mask (`np.ndarray` of shape `(size, size)`, *optional*):
            Weight of each pixel of the crop as face, float32 from 0 to 1; where it is 0 the frame is unchanged.
        crop (`np.ndarray` of shape `(size, size, 3)`, *optional*):
            RGB crop before its restoration, uint8. The colours are not matched then.

    Raises:
        ValueError: If the face is not square, mask or crop is not of its size, or `strength` is outside 0 to 1.
    """
    size = len(face)
    if face.shape != (size, size, 3):
        raise ValueError(f"face must have the shape (size, size, 3), got {face.shape}: pass the crop of one face.")
    if mask is not None and mask.shape != (size, size):
        raise ValueError(f"mask must have the shape {(size, size)} of the face, got {mask.shape}.")
    if crop is not None and crop.shape != face.shape:
        raise ValueError(f"crop must have the shape {face.shape} of the face, got {crop.shape}.")
    if not 0 <= strength <= 1:
        raise ValueError(f"strength must lie in 0 to 1, got {strength}.")
    left, top, right, bottom = pasted_box(matrix, size, image.shape[1], image.shape[0])
    if left >= right or top >= bottom:
        return

    if crop is not None:
        front = cv2.subtract(face, crop, dtype=cv2.CV_32F)
    else:
        if offset is None:
            offset = colour_offset(crop_face(image, matrix, size), face, mask)
        # The type stubs of OpenCV do not know that a tuple is added to every pixel.
        front = cv2.add(face, (*offset.tolist(), 0), dtype=cv2.CV_32F)  # type: ignore[call-overload]
    weight = _crop_mask(size, FACE_RADII if crop is None else CORRECTION_RADII) * np.float32(strength)
    if mask is not None:
        weight *= mask
    to_box = cv2.invertAffineTransform(matrix) - np.array([(0, 0, left), (0, 0, top)])
    box_size = (right - left, bottom - top)
    front, weight = _warp_back(front, weight, to_box, _scale(matrix), box_size)
    behind = image[top:bottom, left:right]
    if crop is None:
        front = cv2.subtract(front, behind, dtype=cv2.CV_32F)
    change = cv2.multiply(front, cv2.merge([weight] * 3))
    image[top:bottom, left:right] = cv2.add(behind, change, dtype=cv2.CV_8U if image.dtype == np.uint8 else cv2.CV_32F)


def pasted_box(matrix: np.ndarray, size: int, width: int, height: int) -> tuple[int, int, int, int]:
    """Compute the part of a frame in which a pasted face lies.

    Args:
        matrix (`np.ndarray` of shape `(2, 3)`):
            Transform from frame pixels to crop pixels.
        size (`int`):
            Side of the crop in pixels.
        width, height (`int`):
            Size of the frame in pixels.

    Returns:
        `tuple[int, int, int, int]`: left, top, right and bottom; the last two are not part of it. If no pixel is,
        left is not smaller than right, or top not smaller than bottom.
    """
    inverse = cv2.invertAffineTransform(matrix)
    corners = np.array([(0, 0), (size, 0), (size, size), (0, size)]) @ inverse[:, :2].T + inverse[:, 2]
    left, top = np.maximum(np.floor(corners.min(axis=0)), 0).astype(int)
    right, bottom = np.minimum(np.ceil(corners.max(axis=0)) + 1, (width, height)).astype(int)
    return int(left), int(top), int(right), int(bottom)


def _warp_back(
    face: np.ndarray, weight: np.ndarray, matrix: np.ndarray, shrink: float, box_size: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """Warp a face and its weight to a box of the frame.

    Args:
        face (`np.ndarray` of shape `(size, size, 3)`): Crop, float32.
        weight (`np.ndarray` of shape `(size, size)`): Weight of each pixel, float32.
        matrix (`np.ndarray` of shape `(2, 3)`): Transform from crop pixels to pixels of the box.
        shrink (`float`): Crop pixels per frame pixel.
        box_size (`tuple[int, int]`): Width and height of the box.

    Returns:
        `tuple[np.ndarray, np.ndarray]`: face of shape `(height, width, 3)` and weight of shape `(height, width)`.
    """
    size, matrix = len(face), matrix.copy()
    if shrink >= LINEAR_LIMIT:
        # A face that shrinks is averaged over areas first; the warp then hardly changes its size.
        small = max(round(size / shrink), 1)
        face, weight = (cv2.resize(x, (small, small), interpolation=cv2.INTER_AREA) for x in (face, weight))
        # The centre of small pixel x lies at (x + 1/2) * size / small - 1/2 of the crop.
        matrix[:, 2] += matrix[:, :2] @ np.full(2, (size / small - 1) / 2)
        matrix[:, :2] *= size / small
    # Cubic interpolation is clearly more accurate than linear; Lanczos is hardly better and several times slower.
    face = cv2.warpAffine(face, matrix, box_size, flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
    return face, cv2.warpAffine(weight, matrix, box_size, flags=cv2.INTER_LINEAR)


def is_grey(image: np.ndarray, limit: float = 10.0) -> bool:
    """Return whether an image is grey by the published rule: its channels differ by nearly constant values.

    Args:
        image (`np.ndarray` of shape `(height, width, 3)`):
            RGB image, uint8.
        limit (`float`, defaults to 10.0):
            Largest variance of a grey image, in squared levels of 255.

    Returns:
        `bool`: whether the variance of the difference of two channels, averaged over the pairs, is at most `limit`.
    """
    red, green, blue = np.moveaxis(image.astype(np.float32), -1, 0)
    return float(np.var(red - green) + np.var(green - blue) + np.var(blue - red)) / 3 <= limit


def to_grey(image: np.ndarray) -> np.ndarray:
    """Remove the colour of an image.

    Args:
        image (`np.ndarray` of shape `(height, width, 3)`):
            RGB image, uint8.

    Returns:
        `np.ndarray` of shape `(height, width, 3)`, uint8: the luma in all three channels.
    """
    return cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)


def _scale(matrix: np.ndarray) -> float:
    """Return the target pixels per source pixel of a similarity transform."""
    return float(np.hypot(matrix[0, 0], matrix[1, 0]))


@cache
def _crop_mask(size: int, radii: tuple[float, float]) -> np.ndarray:
    """Return the weight `(size, size)` of a pasted crop: a square with round corners that fades inside the border."""
    places = np.linspace(-1, 1, size, dtype=np.float32) ** 4
    radius = (places[None, :] + places[:, None]) ** 0.25
    inner, outer = radii
    fade = np.clip((outer - radius) / (outer - inner), 0, 1)
    mask = fade * fade * (3 - 2 * fade)
    mask.setflags(write=False)
    return mask
