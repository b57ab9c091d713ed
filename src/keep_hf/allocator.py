"""Memory of large networks: freed memory is kept on CPUs, and batches become smaller when that of a GPU is full.

Keeping freed memory for the next tensor makes large networks on a CPU up to twice as fast.
The C library of Linux returns every large block that is freed to the kernel, and the kernel fills every page of the
next one with zeros. A layer of the published network allocates tensors of 67 MB that live for milliseconds.
"""

import ctypes
import platform
import warnings
from collections.abc import Callable
from typing import TypeVar

import torch


T = TypeVar("T")

# Constants of <malloc.h>
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4


def keep_freed_memory() -> bool:
    """Make this process keep the memory that it frees, if its C library is glibc.

    The setting holds for the whole process: memory that was used once is not returned before the process ends. So only
    programs call this function, never the pipeline. Peak memory hardly changes, and results do not. In your own
    program call it before the first large tensor is allocated.

    Returns:
        `bool`: Whether the C library accepted the settings.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    library = ctypes.CDLL(None)
    # Allocate all blocks on the heap, and never shrink it.
    return bool(library.mallopt(M_MMAP_MAX, 0) and library.mallopt(M_TRIM_THRESHOLD, -1))


class BatchSize:
    """The largest number of items in one batch of a computation.

    Args:
        value (`int`): The number to begin with.
        items (`str`): What a batch consists of, for the warning.
    """

    def __init__(self, value: int, items: str) -> None:
        self.value, self.items = value, items

    def run(self, work: Callable[[int], T]) -> T:
        """Run a computation; with batches of half the size, as often as needed, if it runs out of GPU memory.

        Batches stay small afterwards: other programs on the GPU, or larger videos, need the memory still.

        Args:
            work (`Callable[[int], T]`): Gets the size of the batches. It has no effect besides its result, because it
                is called again.

        Raises:
            torch.OutOfMemoryError: If the memory does not suffice for one item.
        """
        while True:
            try:
                return work(self.value)
            except torch.OutOfMemoryError:
                if self.value == 1:
                    raise
            # Outside of the handler: the exception held the tensors of the frames that it passed through.
            self.value //= 2
            warnings.warn(
                f"Out of GPU memory: from now on at most {self.value} {self.items} at a time, which is slower. The "
                "result is the same up to rounding.",
                stacklevel=3,
            )
