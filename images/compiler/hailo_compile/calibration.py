"""The windows by which the Dataflow Compiler chooses its 8-bit ranges."""
from pathlib import Path

import numpy

from .refusal import Refusal
from .release import CHANNELS, TIMESTEPS, read_float32

# What the Dataflow Compiler takes by default.
LEAST_WINDOWS = 64


def read_windows(path: Path) -> numpy.ndarray:
    """float32[n][100][9], raw sensor units, from a .npy file or one of little-endian float32."""
    try:
        if path.suffix == '.npy':
            values = numpy.load(path, allow_pickle=False).astype(numpy.float32)
        else:
            values = read_float32(path)
    except (OSError, ValueError) as error:
        raise Refusal(f'{path}: cannot be read ({error}), expected windows as .npy or .f32') from error
    if path.suffix != '.npy' and values.size % (TIMESTEPS * CHANNELS) == 0:
        values = values.reshape(-1, TIMESTEPS, CHANNELS)
    if values.ndim != 3 or values.shape[1:] != (TIMESTEPS, CHANNELS):
        raise Refusal(f'{path}: float32{list(values.shape)}, expected [windows, {TIMESTEPS}, {CHANNELS}]')
    if len(values) < LEAST_WINDOWS:
        raise Refusal(f'{path}: {len(values)} windows, expected {LEAST_WINDOWS} or more, of all kinds of motion')
    if not numpy.isfinite(values).all():
        at = tuple(int(index) for index in numpy.argwhere(~numpy.isfinite(values))[0])
        raise Refusal(f'{path}: window {at[0]}, row {at[1]}, channel {at[2]} is {values[at]}, expected a finite number')
    return values
