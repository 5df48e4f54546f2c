"""An ONNX release: a model, the manifest beside it, and the files that it lists."""
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import numpy

from .refusal import Refusal

MANIFEST = 'model.json'
TIMESTEPS = 100
CHANNELS = 9
LATENT_DIMS = 64


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

    def normalise(self, windows: numpy.ndarray) -> numpy.ndarray:
        """The z-score that the engine applies before the HEF, in float32 as there."""
        z_score = self.manifest['normalization']
        mean, std = (numpy.asarray(z_score[key], numpy.float32) for key in ('mean', 'std'))
        return (windows - mean) / std


def read_release(onnx: Path) -> Release:
    """Raises Refusal when a file is not the one that the manifest lists, or what is needed to compile is missing."""
    path = onnx.parent / MANIFEST
    try:
        manifest = json.loads(path.read_bytes())
    except OSError as error:
        raise Refusal(f'{path}: cannot be read ({error.strerror}), expected the manifest of {onnx.name}') from error
    except ValueError as error:
        raise Refusal(f'{path}: not JSON ({error})') from error
    files = manifest.get('files', {})
    if onnx.name not in files:
        raise Refusal(f'{path}: files does not list {onnx.name}, expected its bytes and sha256')
    for name in files:
        _verify(onnx.parent, name, files[name]['sha256'])
    if manifest['normalization'].get('in_hef', False):
        raise Refusal(f'{path}: normalization.in_hef is true, expected an ONNX model that takes z-scored windows')
    if 'golden.json' not in files:
        raise Refusal(f'{path}: files lists no golden.json, expected golden windows: without them parity is unknown')
    return Release(onnx, manifest, _read_golden(onnx.parent, manifest), _read_motif_head(onnx.parent, manifest))


def sha256_of(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _verify(folder: Path, name: str, expected: str) -> None:
    if Path(name).name != name:
        raise Refusal(f'{folder / MANIFEST}: files lists {name}, expected files beside it')
    try:
        found = sha256_of((folder / name).read_bytes())
    except OSError as error:
        raise Refusal(f'{folder / name}: cannot be read ({error.strerror})') from error
    if found != expected:
        raise Refusal(f'{folder / name}: sha256 {found}, expected {expected} as {MANIFEST} lists')


def _read_golden(folder: Path, manifest: dict) -> Golden:
    def read(name: str, *shape: int) -> numpy.ndarray:
        return read_float32(folder / name).reshape(-1, *shape)

    return Golden(
        windows=read('golden_windows.f32', TIMESTEPS, CHANNELS),
        latents=read('golden_latent.f32', LATENT_DIMS),
        motif_scores=read('golden_motif_probs.f32', len(manifest['motif_labels'])),
    )


def _read_motif_head(folder: Path, manifest: dict) -> MotifHead | None:
    if 'motif_head' not in manifest:
        return None
    motifs = len(manifest['motif_labels'])
    weights, bias = numpy.split(read_float32(folder / manifest['motif_head']['file']), [motifs * LATENT_DIMS])
    return MotifHead(weights.reshape(motifs, LATENT_DIMS), bias)


def read_float32(path: Path) -> numpy.ndarray:
    return numpy.frombuffer(path.read_bytes(), '<f4').astype(numpy.float32)
