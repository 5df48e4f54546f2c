"""What a compiled model may not change, and how the Dataflow Compiler is led through the network."""
from dataclasses import dataclass
from pathlib import Path

import yaml

from .refusal import Refusal
from .release import MANIFEST, MISSING, is_list, is_text, value_at

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
    content: bytes
    network: Network
    # Lines for the Dataflow Compiler.
    model_script: tuple[str, ...]


def read_export_config(path: Path, manifest: dict) -> ExportConfig:
    """Raises Refusal when a locked value is not the manifest's own, with both."""
    try:
        content = path.read_bytes()
        config = yaml.safe_load(content)
    except OSError as error:
        raise Refusal(f'{path}: cannot be read ({error.strerror})') from error
    except (yaml.YAMLError, ValueError) as error:
        raise Refusal(f'{path}: not YAML ({error})') from error
    locked = value_at(config, 'locked')
    differences = [
        f'locked.{key} is {ours}, and {MANIFEST} of the ONNX release has {theirs}'
        for key in LOCKED
        if (ours := value_at(locked, key)) != (theirs := value_at(manifest, key)) or ours == MISSING
    ]
    if differences:
        raise Refusal(f'{path}: ' + '; '.join(differences))
    network = {key: value_at(config, f'network.{key}') for key in ('name', 'start_node', 'input_shape', 'end_nodes')}
    if not (
        is_text(network['name'])
        and is_text(network['start_node'])
        and is_list(network['input_shape'], lambda size: type(size) is int and size > 0)
        and is_list(network['end_nodes'], is_text)
    ):
        raise Refusal(f'{path}: network is {network}, expected two names, and lists input_shape and end_nodes')
    script = value_at(config, 'model_script')
    if script in (MISSING, None, []):
        script = []
    elif not is_list(script, is_text):
        raise Refusal(f'{path}: model_script is {script!r}, expected a list of lines')
    return ExportConfig(
        content,
        Network(
            network['name'],
            network['start_node'],
            tuple(network['input_shape']),
            tuple(network['end_nodes']),
        ),
        tuple(script),
    )
