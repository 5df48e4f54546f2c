"""Files that are expensive to make, each named after all that it was made of."""
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Callable

from .durable import sync
from .release import sha256_of


class Cache:
    def __init__(self, folder: Path, made_with: dict):
        """made_with: what every file here depends on besides its own inputs."""
        self._folder = folder
        self._made_with = made_with

    def file(self, step: str, suffix: str, inputs: dict, make: Callable[[Path], None]) -> Path:
        """The file that make() writes from these inputs, written once. Its name tells later steps what it is."""
        key = sha256_of(json.dumps([step, self._made_with, inputs], sort_keys=True).encode())
        path = self._folder / f'{step}-{key[:32]}{suffix}'
        if path.exists():
            print(f'{step}: as before', file=sys.stderr, flush=True)
            return path
        print(f'{step}: ...', file=sys.stderr, flush=True)
        # In a folder of its own, so that a run that is killed leaves no half of a file under that name.
        with tempfile.TemporaryDirectory(dir=self._folder, prefix='making-') as workshop:
            made = Path(workshop) / path.name
            make(made)
            # Before it has its name, as a file of that name is trusted.
            sync(made)
            os.replace(made, path)
            sync(self._folder)
        return path
