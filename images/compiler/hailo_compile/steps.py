"""
The steps of the Hailo Dataflow Compiler, 3.29 to 3.33: parse, optimise, compile, and its emulator.
Nothing else here knows of it.
"""
import shutil
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from math import prod
from pathlib import Path

import numpy

from .cache import Cache
from .export_config import ExportConfig
from .refusal import Refusal
from .release import CHANNELS, TIMESTEPS, Release, sha256_of

DISTRIBUTION = 'hailo_dataflow_compiler'
HEF_MAGIC = b'\x01HEF'


def compiler_version() -> str:
    try:
        found = version(DISTRIBUTION)
    except PackageNotFoundError as error:
        raise Refusal(f'{DISTRIBUTION} is not installed: run this by entrypoint.sh, which installs the wheel') from error
    if not found.startswith('3.'):
        raise Refusal(f'{DISTRIBUTION} {found} is not for Hailo-8 and Hailo-8L: 3.x is')
    return found


class Steps:
    """Every step is made of the one before, and made once for the same inputs."""

    def __init__(self, cache_folder: Path, arch: str, config: ExportConfig):
        # Loads TensorFlow: not before all that can be refused without it has been looked at.
        import hailo_sdk_client

        self._client = hailo_sdk_client
        self._arch = arch
        self._config = config
        made_with = {
            'compiler': compiler_version(),
            'arch': arch,
            'network': vars(config.network),
            'steps': sha256_of(Path(__file__).read_bytes()),
        }
        self._cache = Cache(cache_folder, made_with)

    def parse(self, release: Release) -> Path:
        """The network in float32, a HAR."""
        network = self._config.network

        def make(path: Path) -> None:
            runner = self._client.ClientRunner(hw_arch=self._arch)
            # From a copy of the inputs alone: weights beside the model that the manifest does not list are not found.
            for name in release.sources:
                shutil.copyfile(release.folder / name, path.with_name(name))
            with _refusing(f'{release.onnx.name} cannot be parsed by {vars(network)}'):
                runner.translate_onnx_model(
                    str(path.with_name(release.onnx.name)),
                    network.name,
                    start_node_names=[network.start_node],
                    end_node_names=list(network.end_nodes),
                    net_input_shapes={network.start_node: list(network.input_shape)},
                )
            _input_shape(runner)
            runner.save_har(str(path))

        return self._cache.file('parse', '.har', {'onnx': release.onnx.name, 'sources': release.sources}, make)

    def optimise(self, parsed: Path, windows: numpy.ndarray) -> Path:
        """The network in 8 bits, a HAR. windows: float32[n][100][9], z-scored."""
        script = '\n'.join(
            [*self._config.model_script, f'model_optimization_config(calibration, calibset_size={len(windows)})', '']
        )

        def make(path: Path) -> None:
            runner = self._open(parsed)
            with _refusing(f'model_script {list(self._config.model_script)} cannot be read'):
                runner.load_model_script(script)
            runner.optimize(_fed(runner, windows))
            runner.save_har(str(path))

        inputs = {'parsed': parsed.name, 'script': script, 'calibration': sha256_of(windows.tobytes())}
        return self._cache.file('optimise', '.har', inputs, make)

    def compile(self, optimised: Path) -> Path:
        """The network for the device, a HEF."""

        def make(path: Path) -> None:
            path.write_bytes(self._open(optimised).compile())

        hef = self._cache.file('compile', '.hef', {'optimised': optimised.name}, make)
        with hef.open('rb') as file:
            begins = file.read(len(HEF_MAGIC))
        if begins != HEF_MAGIC:
            hef.unlink()
            raise Refusal(f'{hef.name} begins with {begins!r}, which no HEF does: it is deleted, the next run makes it anew')
        return hef

    def emulate(self, har: Path, context: str, windows: numpy.ndarray) -> list[numpy.ndarray]:
        """What the emulator answers, float32[n][width] for each end node. context: SDK_NATIVE or SDK_QUANTIZED."""
        runner = self._open(har)
        with runner.infer_context(getattr(self._client.InferenceContext, context)) as emulator:
            answer = runner.infer(emulator, _fed(runner, windows))
        outputs = answer if isinstance(answer, list) else [answer]
        return [numpy.asarray(output, numpy.float32).reshape(len(windows), -1) for output in outputs]

    def _open(self, har: Path):
        return self._client.ClientRunner(hw_arch=self._arch, har=str(har))


@contextmanager
def _refusing(what: str):
    """Whatever the Dataflow Compiler raises here is about what the user wrote."""
    try:
        yield
    except Exception as error:
        raise Refusal(f'{what}: {type(error).__name__}: {error}') from error


def _input_shape(runner) -> tuple[int, ...]:
    """Of one window, as the parsed network takes it: [1, 100, 9]."""
    layers = runner.get_hn_dict()['layers'].values()
    shapes = [layer['input_shapes'][0] for layer in layers if layer['type'] == 'input_layer']
    if [(prod(shape[1:]), shape[-1]) for shape in shapes] != [(TIMESTEPS * CHANNELS, CHANNELS)]:
        raise Refusal(f'the network takes {shapes}, expected one input of {TIMESTEPS} time steps and {CHANNELS} features')
    return tuple(shapes[0][1:])


def _fed(runner, windows: numpy.ndarray) -> numpy.ndarray:
    return windows.reshape(len(windows), *_input_shape(runner))
