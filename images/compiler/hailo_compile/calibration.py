"""The windows by which the Dataflow Compiler chooses its 8-bit ranges."""
from pathlib import Path

import numpy

from .refusal import Refusal
from .release import CHANNELS, TIMESTEPS

# The engine refuses windows beyond: m/s² for ax ay az, rad/s for gx gy gz, µT for mx my mz. A test holds them equal.
LIMITS = numpy.repeat([500, 35, 2000], 3)

# What the Dataflow Compiler takes by default.
LEAST_WINDOWS = 64


def read_windows(path: Path) -> numpy.ndarray:
    """float32[n][100][9], raw sensor units, from a .npy file or one of little-endian float32."""
    try:
        if path.suffix == '.npy':
            with path.open('rb') as file:
                values = numpy.lib.format.read_array(file, allow_pickle=False)
        else:
            values = numpy.frombuffer(path.read_bytes(), '<f4')
    except Exception as error:  # the reader of .npy has no list of what it may stumble over
        raise Refusal(f'{path}: cannot be read ({error}), expected windows as .npy or .f32') from error
    if values.dtype.kind != 'f':
        raise Refusal(f'{path}: its numbers are {values.dtype}, expected float32')
    if path.suffix != '.npy' and values.size % (TIMESTEPS * CHANNELS) == 0:
        values = values.reshape(-1, TIMESTEPS, CHANNELS)
    if values.ndim != 3 or values.shape[1:] != (TIMESTEPS, CHANNELS):
        raise Refusal(f'{path}: {values.dtype}{list(values.shape)}, expected [windows, {TIMESTEPS}, {CHANNELS}]')
    if len(values) < LEAST_WINDOWS:
        raise Refusal(f'{path}: {len(values)} windows, expected {LEAST_WINDOWS} or more, of all kinds of motion')
    # Asked this way round, because what is not a number is within nothing.
    beyond = ~(numpy.abs(values) <= LIMITS)
    if beyond.any():
        window, row, channel = (int(index) for index in numpy.argwhere(beyond)[0])
        raise Refusal(
            f'{path}: window {window}, row {row}, channel {channel} is {values[window, row, channel]}, '
            f'expected {-LIMITS[channel]} to {LIMITS[channel]} in raw sensor units'
        )
    return values.astype(numpy.float32)
