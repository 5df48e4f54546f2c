"""What is there after a power loss."""
import os
from pathlib import Path


def sync(path: Path) -> None:
    """Of a folder, the names in it."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
