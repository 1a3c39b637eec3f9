"""Memory that training frees stays with the process.

A gradient step frees and asks again for the same few megabytes many times a second. The C
library's default returns large pieces to the system at once, and the next step pays for every page
anew: a tenth of the time of a small network's step. Other C libraries are left as they are.
"""

import ctypes

TRIM_THRESHOLD, TOP_PAD, MMAP_THRESHOLD = -1, -2, -3  # names of mallopt(3)
LARGEST = 32 << 20  # bytes; glibc takes no larger threshold for mapping


def keep_freed_memory() -> bool:
    """Tells the allocator to keep freed memory for reuse; returns whether it could be told."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # not glibc
        return False
    settings = ((MMAP_THRESHOLD, LARGEST), (TRIM_THRESHOLD, 1 << 30), (TOP_PAD, 64 << 20))
    return all(mallopt(name, value) == 1 for name, value in settings)
