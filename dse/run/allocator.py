"""Where freed arrays go: back to the process while it scores, then to the kernel."""

from __future__ import annotations

import ctypes
from contextlib import suppress
from functools import cache

# glibc's malloc.h: free memory beyond which the heap shrinks; size from which a block is its own mapping, given back
# when freed. The values are far above what a slice and an array of it take; 32 MiB is the most glibc allows.
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
_OPTIONS = {_TRIM_THRESHOLD: 2**28, _MMAP_THRESHOLD: 2**25}


@cache
def keep_freed_memory() -> bool:
    """Have glibc keep what is freed; False where there is another allocator.

    A slice makes and frees some hundred arrays of about a megabyte. glibc gives each back to the kernel, which
    clears the pages of the next: a third of the time of a sweep.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return False
    return all(mallopt(option, value) == 1 for option, value in _OPTIONS.items())


def release_freed_memory() -> None:
    """Give what was kept back to the kernel: what follows makes Python objects, which have a heap of their own."""
    with suppress(AttributeError, OSError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)
