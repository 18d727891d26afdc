"""A lock between processes that ends with the process that holds it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any


def lock_file(path: Path, on_wait: Callable[[], None]) -> IO[Any]:
    """Open and lock `path`, waiting for whoever holds it; closing the file lets go.

    Where the system knows no such locks, there is none: two runs of one sweep then do the same work twice,
    and the files of either are whole.

    Raises:
        OSError: the file cannot be made.
    """
    waited = False
    while True:
        stream = path.open("ab")
        try:
            if not _take(stream, wait=waited):
                stream.close()
                if not waited:
                    on_wait()
                waited = True
                continue
        except BaseException:
            stream.close()
            raise
        if _is_still(path, stream):
            return stream
        stream.close()  # whoever held it has removed it: lock the one that is there now


def _take(stream: IO[Any], *, wait: bool) -> bool:
    """Lock the file; False where another process has it."""
    try:
        import fcntl
    except ImportError:  # not on Windows
        return True
    try:
        fcntl.flock(stream, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks
        return True
    return True


def _is_still(path: Path, stream: IO[Any]) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(stream.fileno()))
    except FileNotFoundError:
        return False
