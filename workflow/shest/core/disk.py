"""Room on disks, and the memory of this machine."""

import os
from pathlib import Path


def free_bytes(folder: str | Path) -> int:
    """Return the free space of the disk that a folder is, or will be, on."""
    parent = Path(folder).absolute()
    while not parent.exists():
        parent = parent.parent
    state = os.statvfs(parent)
    return state.f_bavail * state.f_frsize


def used_bytes(folder: str | Path) -> int:
    """Return the bytes of all files below a folder, 0 where there is none."""
    return sum(os.lstat(os.path.join(parent, name)).st_size for parent, _, names in os.walk(folder) for name in names)


def total_memory() -> int:
    """Return the memory of this machine in bytes."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
