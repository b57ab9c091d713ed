"""How much of the sharpness of a face is kept: PSNR hardly notices when fine detail is lost, this ratio does.

The sharpness of a face is the energy of its Laplacian, mean((d²/dx² + d²/dy²) luma)².  Noise has sharpness, too, so
a value above 1 is not better than 1.
"""

import cv2
import numpy as np

from keep_hf.evaluation.series import Series


# Left, top, right and bottom of the face in an aligned crop, in sides of the crop: from the brows to the chin.
FACE_REGION = (0.24, 0.32, 0.76, 0.88)


def measure_sharpness(face: np.ndarray) -> float:
    """The energy of the Laplacian inside the face.

    Args:
        face (`np.ndarray` of shape `(size, size, 3)`): Aligned crop, RGB, uint8.

    Returns:
        `float`: in squared levels of 255.
    """
    luma = cv2.cvtColor(face, cv2.COLOR_RGB2GRAY).astype(np.float32)
    left, top, right, bottom = (round(part * len(face)) for part in FACE_REGION)
    return float(np.square(cv2.Laplacian(luma, cv2.CV_32F)[top:bottom, left:right]).mean())


def sharpness_kept(faces: np.ndarray, reference: np.ndarray) -> Series:
    """For every frame, the sharpness of a face relative to that of the reference.

    Args:
        faces, reference (`np.ndarray` of shape `(t, size, size, 3)`): Aligned crops, RGB, uint8.

    Returns:
        [`Series`]: 1 where all sharpness is kept; not finite where the reference is flat.
    """
    pairs = [(measure_sharpness(face), measure_sharpness(sharp)) for face, sharp in zip(faces, reference, strict=True)]
    return Series([face / sharp if sharp else float("nan") for face, sharp in pairs])
