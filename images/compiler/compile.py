#!/usr/bin/env python3
"""
Makes a HEF of an ONNX release with the Hailo Dataflow Compiler, checks it by the golden windows, and publishes it as a
version that the engine serves. Steps that were done before with the same inputs are not done again.
"""
import argparse
import json
import os
import signal
import sys
from pathlib import Path

from hailo_compile.calibration import read_windows
from hailo_compile.export_config import read_export_config
from hailo_compile.parity import in_words, parity_of
from hailo_compile.refusal import Refusal
from hailo_compile.release import read_release, sha256_of
from hailo_compile.steps import Steps, compiler_version
from hailo_compile.version import folder_for, publish

EXIT_REFUSED = 1
# EX_USAGE of sysexits.h
EXIT_USAGE = 64
# As a shell tells of SIGTERM
EXIT_TERMINATED = 143


def main() -> int:
    options = parse_options()
    # As process 1 of a container it would not end by it, and else without taking away what it has begun.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(EXIT_TERMINATED))
    try:
        make_version(options)
    except Refusal as refusal:
        # What others say in it may have several lines.
        print('compile:', *str(refusal).splitlines(), file=sys.stderr)
        return EXIT_REFUSED
    return 0


def make_version(options: argparse.Namespace) -> None:
    folder = folder_for(options.out.resolve(), options.version)
    release = read_release(options.onnx.resolve())
    config = read_export_config(options.config.resolve(), release.manifest)
    windows = read_windows(options.calibration)
    compiler = compiler_version()
    # The Dataflow Compiler writes its logs to where it is.
    os.chdir(options.cache)
    steps = Steps(Path.cwd(), options.arch, config)

    parsed = steps.parse(release)
    optimised = steps.optimise(parsed, release.normalise(windows))
    golden = release.normalise(release.golden.windows)
    parities = [
        parity_of(context, steps.emulate(har, context, golden), release)
        for context, har in [('SDK_NATIVE', parsed), ('SDK_QUANTIZED', optimised)]
    ]
    report = in_words(parities)
    print(report, file=sys.stderr)
    if not all(parity.holds for parity in parities):
        raise Refusal('golden parity does not hold, nothing is published. Calibrate with more windows, or of more kinds')
    hef = steps.compile(optimised)

    compiled = {
        'architecture': options.arch,
        'compiler': compiler,
        'onnx': {'file': release.onnx.name, 'sha256': sha256_of(release.onnx.read_bytes())},
        'calibration': {'windows': len(windows), 'sha256': sha256_of(windows.tobytes())},
    }
    reports = {
        'export_config.yaml': config.content,
        'parity.json': json.dumps({parity.context: parity.told() for parity in parities}, indent=1).encode() + b'\n',
        'parity.md': report.encode(),
    }
    publish(folder, release, hef, compiled, reports)
    print(folder)


class Parser(argparse.ArgumentParser):
    def error(self, message: str):
        self.print_usage(sys.stderr)
        self.exit(EXIT_USAGE, f'{message}\n')


def parse_options() -> argparse.Namespace:
    parser = Parser(
        prog='compile',
        description=__doc__,
        epilog='Exit code: 0 published, its folder is printed; 1 refused, nothing is published; 64 wrong usage; '
        '143 stopped.',
    )
    parser.add_argument('--onnx', type=Path, required=True, help='the model, with its model.json and files beside it')
    parser.add_argument(
        '--calibration', type=Path, required=True, help='windows [n,100,9] in raw sensor units, .npy or .f32'
    )
    parser.add_argument(
        '--config',
        type=Path,
        default=Path(__file__).with_name('export_config.yaml'),
        help='locked values and the part of the graph; by default those of the model that ships',
    )
    parser.add_argument('--out', type=Path, required=True, help='the folder of versions, MODEL_DIR of the engine')
    parser.add_argument('--version', required=True, help='the name of the new version')
    parser.add_argument('--arch', choices=['hailo8', 'hailo8l'], default='hailo8', help='the chip, by default a Hailo-8')
    parser.add_argument('--cache', type=Path, required=True, help='where steps are kept; entrypoint.sh gives it')
    return parser.parse_args()


if __name__ == '__main__':
    sys.exit(main())
