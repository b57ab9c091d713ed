"""The networks that Table 1 of the paper compares with KEEP, for `benchmarks.vfhq_test`.

    video networks   basicvsr, basicvsr_plusplus, edvr
    image networks   gfpgan, restoreformer, gpen; stylegan2 is the generator of gfpgan and gpen

They are written from descriptions of the published architectures and load the published weights by file.  No weights
are part of this repository, and none are downloaded.

Each file has one class, a `torch.nn.Module` with two more methods (the protocol [`Baseline`]):

    from_checkpoint(path)   reads the file of a release with `loading.Checkpoint`, in any of its dialects of keys,
                            and derives the sizes of the network from the weights.  A file of another network raises
                            a `ValueError` of one line.  Returns the network in evaluation mode, on the CPU.
    restore(frames)         restores an aligned face: `(t, h, w, 3)`, RGB, uint8, of any size, to as many frames of
                            the size of the network.  The conversion of pixels is that of the published program.

The parameters of a network have the names of the published files (for the video networks: those of BasicSR), apart
from a few rules at the top of a file.  `forward` takes and returns tensors in the published range.
"""

from typing import Protocol

import numpy as np


class Baseline(Protocol):
    """What all networks of this folder have in common."""

    def restore(self, frames: np.ndarray) -> np.ndarray:
        """Restore an aligned face.

        Args:
            frames (`np.ndarray` of shape `(t, h, w, 3)`): RGB, uint8, of any size.

        Returns:
            `np.ndarray` of shape `(t, size, size, 3)`: RGB, uint8, of the size of the network.
        """
        ...
