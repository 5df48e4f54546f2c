"""A version of the model as the engine serves it: the ONNX release with its HEF."""
import json
import os
import re
import shutil
import tempfile
from pathlib import Path

from .durable import sync
from .refusal import Refusal
from .release import MANIFEST, Release, sha256_of

# As src/artifacts/current.ts has it.
NAME = re.compile(r'\w[\w.+-]{0,63}', re.ASCII)
NO_VERSIONS = ('current', 'history', 'lost+found')
# What the licence of a model asks to be carried with it.
CARRIED = ('LICENSE', 'MODEL_CARD.md')
SUMS = 'SHA256SUMS'


def folder_for(models: Path, version: str) -> Path:
    """Raises Refusal when no version can be written there."""
    if not NAME.fullmatch(version) or version in NO_VERSIONS:
        raise Refusal(f'{version!r} is no name of a version: up to 64 letters, digits and . _ - +, no dot in front')
    try:
        models.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise Refusal(f'{models} cannot be a folder of versions ({error.strerror})') from error
    if not os.access(models, os.W_OK | os.X_OK):
        raise Refusal(f'{models} cannot be written to by user {os.getuid()}')
    folder = models / version
    if folder.exists():
        raise Refusal(f'{folder} is there already: a version is never changed, give --version another')
    return folder


def publish(folder: Path, release: Release, hef: Path, compiled: dict, reports: dict[str, bytes]) -> None:
    """Writes all of it beside where it belongs, under a name that is no version, then renames it."""
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f'.{folder.name}.') as workshop:
        made = Path(workshop) / folder.name
        made.mkdir()
        name = f'{release.served_name}.hef'
        anew = {SUMS, *reports}
        listed = [other for other in release.manifest['files'] if not other.endswith('.hef') and other not in anew]
        carried = [other for other in CARRIED if (release.folder / other).exists()]
        for other in {*listed, *carried}:
            shutil.copyfile(release.folder / other, made / other)
        shutil.copyfile(hef, made / name)
        for report, content in reports.items():
            (made / report).write_bytes(content)
        manifest = {
            **release.manifest,
            'version': folder.name,
            'compiled': {'file': name, **compiled},
            'files': {other: _facts(made / other) for other in sorted([*listed, name, *reports])},
        }
        (made / MANIFEST).write_text(json.dumps(manifest, indent=1, ensure_ascii=False) + '\n')
        sums = [f'{sha256_of(path.read_bytes())}  {path.name}\n' for path in sorted(made.iterdir())]
        (made / SUMS).write_text(''.join(sums))
        for path in [*made.iterdir(), made]:
            sync(path)
        try:
            # Fails where another run has published it meanwhile: that one has files in it.
            os.rename(made, folder)
        except OSError as error:
            raise Refusal(f'{folder} cannot be written ({error.strerror})') from error
        sync(folder.parent)


def _facts(path: Path) -> dict:
    content = path.read_bytes()
    return {'bytes': len(content), 'sha256': sha256_of(content)}
