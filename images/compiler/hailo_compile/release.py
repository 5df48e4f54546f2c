"""An ONNX release: a model, the manifest beside it, and the files that it lists."""
import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Callable

import numpy

from .refusal import Refusal

MANIFEST = 'model.json'
TIMESTEPS = 100
CHANNELS = 9
LATENT_DIMS = 64
# As src/model.ts has it, but no file that is hidden.
SERVED_NAME = re.compile(r'[\w-][\w.-]{0,127}', re.ASCII)
# What an earlier compile has added is none either.
NO_SOURCE = re.compile(r'golden.*|.*\.hef|parity\.\w+|export_config\.yaml|SHA256SUMS')
# Windows, latents, motif scores.
GOLDEN_FILES = ('golden_windows.f32', 'golden_latent.f32', 'golden_motif_probs.f32')


@dataclass(frozen=True)
class Golden:
    """Recorded windows with the trained model's own answers."""

    windows: numpy.ndarray  # float32[n][100][9], raw sensor units
    latents: numpy.ndarray  # float32[n][64]
    motif_scores: numpy.ndarray  # float32[n][motifs], probabilities


@dataclass(frozen=True)
class MotifHead:
    """What the host computes for a HEF that ends at the latent: weights · latent + bias."""

    weights: numpy.ndarray  # float32[motifs][64]
    bias: numpy.ndarray  # float32[motifs]


@dataclass(frozen=True)
class Release:
    onnx: Path
    manifest: dict
    golden: Golden
    # None: the HEF itself must give the motif scores.
    motif_head: MotifHead | None

    @property
    def folder(self) -> Path:
        return self.onnx.parent

    @property
    def served_name(self) -> str:
        return self.manifest.get('served_name', self.manifest['name'])

    @property
    def sources(self) -> dict[str, str]:
        """The sha256 of all that the network may be made of, by name: an ONNX model may have its weights beside it."""
        files = self.manifest['files']
        return {name: files[name]['sha256'] for name in files if not NO_SOURCE.fullmatch(name)}

    def normalise(self, windows: numpy.ndarray) -> numpy.ndarray:
        """The z-score that the engine applies before the HEF, in float32 as there."""
        z_score = self.manifest['normalization']
        mean, std = (numpy.asarray(z_score[key], numpy.float32) for key in ('mean', 'std'))
        return (windows - mean) / std


def read_release(onnx: Path) -> Release:
    """Raises Refusal when a file is not the one that the manifest lists, or what is needed to compile is missing."""
    manifest = _read_manifest(onnx.parent / MANIFEST)
    files = manifest['files']
    head = [manifest['motif_head']['file']] if 'motif_head' in manifest else []
    missing = [name for name in (onnx.name, 'golden.json', *GOLDEN_FILES, *head) if name not in files]
    if missing:
        raise Refusal(
            f'{onnx.parent / MANIFEST}: files does not list {", ".join(missing)}, expected the model, '
            'golden windows, without which parity is unknown, and the motif head'
        )
    for name in files:
        _verify(onnx.parent, name, files[name]['sha256'])
    return Release(onnx, manifest, _read_golden(onnx.parent, manifest), _read_motif_head(onnx.parent, manifest))


def sha256_of(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


class _Missing:
    def __repr__(self) -> str:
        return 'nothing'


MISSING = _Missing()


def value_at(content: object, key: str) -> object:
    """key: names with dots between. MISSING where there is none."""
    for part in key.split('.'):
        if not isinstance(content, dict) or part not in content:
            return MISSING
        content = content[part]
    return content


def is_text(value: object) -> bool:
    return isinstance(value, str) and value != ''


def is_list(value: object, each: Callable[[object], bool]) -> bool:
    return isinstance(value, list) and value != [] and all(map(each, value))


def _are_numbers(value: object, least: float) -> bool:
    """Of every channel one, that float32 can hold."""
    return is_list(value, lambda x: type(x) in (int, float) and least <= x < 3.4e38) and len(value) == CHANNELS


# What is read of a manifest here. The engine asks for more before it serves a version.
FIELDS = {
    'name': ('a text', is_text),
    'normalization.mean': (f'{CHANNELS} numbers', lambda value: _are_numbers(value, -3.4e38)),
    'normalization.std': (f'{CHANNELS} numbers above 0', lambda value: _are_numbers(value, 1.2e-38)),
    'outputs': ('tensors with a name', lambda value: is_list(value, lambda each: is_text(value_at(each, 'name')))),
    'motif_labels': ('names', lambda value: is_list(value, is_text)),
    'motif_head': ('with its file', lambda value: value == MISSING or is_text(value_at(value, 'file'))),
    'files': (
        'sha256 of each by its name',
        lambda value: isinstance(value, dict) and all(is_text(value_at(each, 'sha256')) for each in value.values()),
    ),
}


def _read_manifest(path: Path) -> dict:
    try:
        manifest = json.loads(path.read_bytes())
    except OSError as error:
        raise Refusal(f'{path}: cannot be read ({error.strerror}), expected the manifest of the model') from error
    except ValueError as error:
        raise Refusal(f'{path}: not JSON ({error})') from error
    wrong = [
        f'{key} is {str(value)[:200]}, expected {expected}'
        for key, (expected, holds) in FIELDS.items()
        if not holds(value := value_at(manifest, key))
    ]
    if wrong:
        raise Refusal(f'{path}: ' + '; '.join(wrong))
    served_name = manifest.get('served_name', manifest['name'])
    if not is_text(served_name) or not SERVED_NAME.fullmatch(served_name):
        raise Refusal(
            f'{path}: served_name, else name, is {served_name!r}, expected letters, digits and . _ -, no dot in front'
        )
    if manifest['normalization'].get('in_hef', False):
        raise Refusal(f'{path}: normalization.in_hef is true, expected an ONNX model that takes z-scored windows')
    return manifest


def _verify(folder: Path, name: str, expected: str) -> None:
    if Path(name).name != name:
        raise Refusal(f'{folder / MANIFEST}: files lists {name}, expected files beside it')
    try:
        found = sha256_of((folder / name).read_bytes())
    except (OSError, ValueError) as error:
        raise Refusal(f'{folder / name}: cannot be read ({error})') from error
    if found != expected:
        raise Refusal(f'{folder / name}: sha256 {found}, expected {expected} as {MANIFEST} lists')


def _read_golden(folder: Path, manifest: dict) -> Golden:
    widths = (TIMESTEPS * CHANNELS, LATENT_DIMS, len(manifest['motif_labels']))
    windows, latents, motif_scores = (
        _read_rows(folder / name, width) for name, width in zip(GOLDEN_FILES, widths)
    )
    counts = [len(windows), len(latents), len(motif_scores)]
    if len(windows) == 0 or len(set(counts)) > 1:
        raise Refusal(f'{folder}: {", ".join(GOLDEN_FILES)} have {counts} rows, expected one for each golden window')
    return Golden(windows.reshape(-1, TIMESTEPS, CHANNELS), latents, motif_scores)


def _read_motif_head(folder: Path, manifest: dict) -> MotifHead | None:
    if 'motif_head' not in manifest:
        return None
    motifs = len(manifest['motif_labels'])
    path = folder / manifest['motif_head']['file']
    layers = _read_rows(path, motifs * (LATENT_DIMS + 1))
    if len(layers) != 1:
        raise Refusal(f'{path}: {len(layers)} layers, expected one from a latent of {LATENT_DIMS} to {motifs} motifs')
    weights, bias = numpy.split(layers[0], [motifs * LATENT_DIMS])
    return MotifHead(weights.reshape(motifs, LATENT_DIMS), bias)


def _read_rows(path: Path, width: int) -> numpy.ndarray:
    """float32[n][width]"""
    content = path.read_bytes()
    if len(content) % (width * 4) != 0:
        raise Refusal(f'{path}: {len(content)} bytes, expected rows of {width} little-endian float32')
    rows = numpy.frombuffer(content, '<f4').reshape(-1, width)
    if not numpy.isfinite(rows).all():
        raise Refusal(f'{path}: not all are finite numbers')
    return rows
