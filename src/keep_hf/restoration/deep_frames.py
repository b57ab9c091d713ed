"""Restored faces in frames with more than 8 bits per colour: the change, and only that, goes into the 10-bit YUV."""

import cv2
import numpy as np

from ..faces.alignment import paste_face, pasted_box
from ..video.deep.deep_image import Box, DeepImage
from .compositor import FacePaste
from .face_restorer import RestoredFrame


def restore_deep(source: DeepImage, restored: RestoredFrame) -> DeepImage:
    """Apply what a restoration has changed in the RGB frame to the same frame as 10-bit YUV.

    Pixels outside of the faces keep their values. In a face, the restored face is pasted without rounding it to 8
    bits, and the frame keeps what 8 bits do not have. If a network has enlarged the background, or the frame
    is a crop, the change of the whole frame has steps of 1/255.

    Args:
        source ([`DeepImage`]): The frame.
        restored ([`RestoredFrame`]): The result for the frame as RGB.

    Returns:
        [`DeepImage`] of the size of `restored.image`.
    """
    height, width = restored.image.shape[:2]
    result = source.resized(width, height)
    if restored.pastes is None:
        box = Box(0, 0, width, height)
        enlarged = cv2.resize(restored.followed.image, (width, height), interpolation=cv2.INTER_CUBIC)
        before = result.to_rgb(box)
        result.change(box, before, before + cv2.subtract(restored.image, enlarged, dtype=cv2.CV_32F))
        return result
    for paste in restored.pastes:
        _paste(result, paste)
    return result


def _paste(frame: DeepImage, paste: FacePaste) -> None:
    box = Box(*pasted_box(paste.matrix, len(paste.face), *frame.size))
    if box.left >= box.right or box.top >= box.bottom:
        return
    box = frame.even(box)
    before = frame.to_rgb(box)
    after = before.copy()
    # From pixels of the box to those of the crop.
    matrix = paste.matrix.copy()
    matrix[:, 2] += paste.matrix[:, :2] @ np.array([box.left, box.top])
    paste_face(after, paste.face, matrix, paste.strength, paste.offset, paste.mask, paste.crop)
    frame.change(box, before, after)
