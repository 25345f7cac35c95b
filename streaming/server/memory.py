"""Keeping the process small: what the C library does with memory that is no longer used."""

import contextlib
import ctypes
import gc
import platform
import sys
from pathlib import Path

__all__ = ["frugal_allocator", "give_memory_back"]

# Numbers of glibc's malloc.h and Linux's mman.h.
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -3, -8
MADV_DONTNEED = 4
KEEP_FREE = 128 << 10  # bytes at the end of the heap, until which it is not cut
OWN_PAGES = 1 << 20  # bytes from which a block has pages of its own, which go when it does


def frugal_allocator() -> None:
    """Let free memory go at once; to be called before there are threads.

    Left to itself glibc raises its thresholds by what loading a model needed, and then keeps up to
    64 MB of free memory, in a heap for each thread. Our threads allocate one at a time, under the
    interpreter's lock, so a single heap makes none of them wait.
    """
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        libc.mallopt(M_ARENA_MAX, 1)
        libc.mallopt(M_MMAP_THRESHOLD, OWN_PAGES)
        libc.mallopt(M_TRIM_THRESHOLD, KEEP_FREE)


def give_memory_back() -> None:
    """Once the model is loaded: free memory amid the heap, and code that only starting needed.

    Of the libraries' code, which is on disk as well, pages are dropped that come back when they are
    run; half of them never are.
    """
    gc.collect()
    if platform.libc_ver()[0] == "glibc":
        ctypes.CDLL(None).malloc_trim(0)
    if sys.platform == "linux":
        with contextlib.suppress(OSError):
            _drop_code(Path("/proc/self/maps").read_text())


def _drop_code(maps: str) -> None:
    libc = ctypes.CDLL(None)
    for line in maps.splitlines():
        span, permissions, _, _, inode, *_ = line.split(maxsplit=5)
        # What may be run and not written is as it is on disk; other pages may have been changed.
        if permissions == "r-xp" and inode != "0":
            begin, end = (int(address, 16) for address in span.split("-"))
            libc.madvise(ctypes.c_void_p(begin), ctypes.c_size_t(end - begin), MADV_DONTNEED)
