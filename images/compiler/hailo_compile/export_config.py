"""What a compiled model may not change, and how the Dataflow Compiler is led through the network."""
from dataclasses import dataclass
from pathlib import Path

import yaml

from .refusal import Refusal
from .release import MANIFEST

# The engine feeds the HEF by these. A HEF that was made for others answers wrongly, and fast.
LOCKED = (
    'input.window',
    'input.channels',
    'input.channel_order',
    'input.units',
    'normalization.method',
    'normalization.mean',
    'normalization.std',
)
MISSING = 'nothing'


@dataclass(frozen=True)
class Network:
    """The part of the ONNX graph that is compiled."""

    name: str
    start_node: str
    # Of the start node's input, as ONNX has it: batch, channels, height, width.
    input_shape: tuple[int, ...]
    end_nodes: tuple[str, ...]


@dataclass(frozen=True)
class ExportConfig:
    path: Path
    network: Network
    # Lines for the Dataflow Compiler.
    model_script: tuple[str, ...]


def read_export_config(path: Path, manifest: dict) -> ExportConfig:
    """Raises Refusal when a locked value is not the manifest's own, with both."""
    try:
        content = yaml.safe_load(path.read_text())
    except OSError as error:
        raise Refusal(f'{path}: cannot be read ({error.strerror})') from error
    except yaml.YAMLError as error:
        raise Refusal(f'{path}: not YAML ({error})') from error
    locked = _at(content, 'locked')
    differences = [
        f'locked.{key} is {ours}, and {MANIFEST} of the ONNX release has {theirs}'
        for key in LOCKED
        if (ours := _at(locked, key)) != (theirs := _at(manifest, key)) or ours == MISSING
    ]
    if differences:
        raise Refusal(f'{path}: ' + '; '.join(differences))
    network = {key: _at(content, f'network.{key}') for key in ('name', 'start_node', 'input_shape', 'end_nodes')}
    lists = ('input_shape', 'end_nodes')
    if any(value == MISSING or isinstance(value, list) != (key in lists) for key, value in network.items()):
        raise Refusal(f'{path}: network is {network}, expected two names, and lists {" and ".join(lists)}')
    return ExportConfig(
        path,
        Network(
            network['name'],
            network['start_node'],
            tuple(network['input_shape']),
            tuple(network['end_nodes']),
        ),
        tuple(content.get('model_script') or ()),
    )


def _at(content: object, key: str) -> object:
    for part in key.split('.'):
        if not isinstance(content, dict) or part not in content:
            return MISSING
        content = content[part]
    return content
