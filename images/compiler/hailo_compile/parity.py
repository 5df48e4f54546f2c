"""How near the compiled network's answers come to the trained model's own."""
from dataclasses import dataclass

import numpy

from .refusal import Refusal
from .release import LATENT_DIMS, Release


@dataclass(frozen=True)
class Limits:
    smallest_cosine: float
    mean_cosine: float
    # Where the trained model's two best motifs lie nearer than this, either may be the best.
    tie: float


# Those of the engine's golden check, so that what is published is also served. A test holds them equal.
LIMITS = {
    'SDK_NATIVE': Limits(smallest_cosine=0.9999, mean_cosine=0.9999, tie=0),
    'SDK_QUANTIZED': Limits(smallest_cosine=0.995, mean_cosine=0.999, tie=0.1),
}


@dataclass(frozen=True)
class Parity:
    context: str
    # Of each golden window's latent and the trained model's.
    cosines: numpy.ndarray
    # Golden windows with another best motif than the trained model's, and those of them that are no close call.
    other_motifs: list[int]
    misses: list[int]

    @property
    def limits(self) -> Limits:
        return LIMITS[self.context]

    @property
    def holds(self) -> bool:
        # Asked this way round, because an answer that is not a number holds nothing.
        return bool(
            self.cosines.min() >= self.limits.smallest_cosine
            and self.cosines.mean() >= self.limits.mean_cosine
            and not self.misses
        )

    def told(self) -> dict:
        """For parity.json."""
        return {
            'holds': self.holds,
            'latent_cosine_min': float(self.cosines.min()),
            'latent_cosine_mean': float(self.cosines.mean()),
            'latent_cosines': [float(cosine) for cosine in self.cosines],
            'top_motif_agreement': 1 - len(self.other_motifs) / len(self.cosines),
            'top_motif_differs_at': self.other_motifs,
            'top_motif_misses': self.misses,
            'limits': vars(self.limits),
        }


def parity_of(context: str, outputs: list[numpy.ndarray], release: Release) -> Parity:
    """outputs: what the emulator answered to the golden windows, float32[n][width] for each end node."""
    golden = release.golden
    latents, scores = _results(outputs, release)
    expected = golden.motif_scores
    differ = numpy.flatnonzero(scores.argmax(axis=1) != expected.argmax(axis=1))
    ranked = numpy.sort(expected, axis=1)
    clear = ranked[:, -1] - ranked[:, -2] >= LIMITS[context].tie
    return Parity(
        context,
        cosines=_cosines(latents.astype(numpy.float64), golden.latents.astype(numpy.float64)),
        other_motifs=[int(window) for window in differ],
        misses=[int(window) for window in differ if clear[window]],
    )


def in_words(parities: list[Parity]) -> str:
    """For parity.md."""
    rows = [
        f'| {parity.context} | {parity.cosines.min():.6f} (window {parity.cosines.argmin()}) '
        f'| {parity.limits.smallest_cosine} | {parity.cosines.mean():.6f} | {parity.limits.mean_cosine} '
        f'| {len(parity.cosines) - len(parity.other_motifs)} of {len(parity.cosines)} | {len(parity.misses)} '
        f'| {"yes" if parity.holds else "NO"} |'
        for parity in parities
    ]
    return '\n'.join(
        [
            '# Golden parity',
            '',
            "The golden windows through the Dataflow Compiler's emulator, against the trained model's own answers.",
            'A miss is another best motif where the trained model was sure; none is allowed.',
            '',
            '| context | smallest latent cosine | at least | mean | at least | same best motif | misses | holds |',
            '| --- | --- | --- | --- | --- | --- | --- | --- |',
            *rows,
            '',
        ]
    )


def _results(outputs: list[numpy.ndarray], release: Release) -> tuple[numpy.ndarray, numpy.ndarray]:
    """Latents and motif scores, told apart by their width as the engine does."""
    motifs = len(release.manifest['motif_labels'])
    widths = [output.shape[1] for output in outputs]
    if LATENT_DIMS not in widths:
        raise Refusal(f'the end nodes give {widths} values, expected a latent of {LATENT_DIMS}')
    latents = outputs[widths.index(LATENT_DIMS)]
    if motifs in widths and motifs != LATENT_DIMS:
        answered = outputs[widths.index(motifs)]
        names = [output['name'] for output in release.manifest['outputs']]
        return latents, answered if 'motif_scores' in names else _softmax(answered)
    head = release.motif_head
    if head is None:
        raise Refusal(f'the end nodes give {widths} values, expected {motifs} motif scores, as there is no motif_head')
    return latents, _softmax(latents @ head.weights.T + head.bias)


def _softmax(logits: numpy.ndarray) -> numpy.ndarray:
    weights = numpy.exp(logits - logits.max(axis=1, keepdims=True))
    return weights / weights.sum(axis=1, keepdims=True)


def _cosines(a: numpy.ndarray, b: numpy.ndarray) -> numpy.ndarray:
    with numpy.errstate(invalid='ignore'):
        return (a * b).sum(axis=1) / (numpy.linalg.norm(a, axis=1) * numpy.linalg.norm(b, axis=1))
