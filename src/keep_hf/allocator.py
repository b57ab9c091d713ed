"""Memory that was freed, kept for the next tensor: half of the time of a large network on CPU may hang on it.

The C library of Linux gives every large block that is freed back to the kernel, and the kernel fills every page of the
next one with zeros.  A layer of the published network makes tensors of 67 MB, which live for milliseconds.
"""

import ctypes
import platform


# The numbers of <malloc.h>
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4


def keep_freed_memory() -> bool:
    """Have this process keep the memory that it frees, where its C library is glibc.

    It holds for the whole process, hence only programs call it, never the pipeline: what a process has once used stays
    with it until it ends.  The largest use of memory hardly changes, and no result does.  In a program of your own
    call it before the first large tensor is made.

    Returns:
        `bool`: whether the C library took the settings.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    library = ctypes.CDLL(None)
    # No blocks outside the heap, and the heap does not shrink.
    return bool(library.mallopt(M_MMAP_MAX, 0) and library.mallopt(M_TRIM_THRESHOLD, -1))
