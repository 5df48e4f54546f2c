#!/usr/bin/env bash
# Installs the Hailo Dataflow Compiler that the user brings, once per wheel, and runs compile.py with it.
set -euo pipefail

# Where the user mounts them.
wheels=${DFC_FOLDER:-/dfc}
# Of this user alone, as nobody else may write to its files.
cache=${CACHE_FOLDER:-/cache}/$(id -u)
program=$(dirname "$(readlink -f "$0")")/compile.py

for argument; do
  case $argument in -h | --help) exec python3 "$program" --help ;; esac
done

shopt -s nullglob
found=("$wheels"/hailo_dataflow_compiler-*.whl)
if [ ${#found[@]} -ne 1 ]; then
  echo "compile: ${#found[@]} hailo_dataflow_compiler-*.whl in $wheels, expected one:" \
    "download version 3.x for your HailoRT from https://hailo.ai/developer-zone/software-downloads/ (free account)" \
    "and mount its folder with -v ./dfc:/dfc:ro" >&2
  exit 1
fi
wheel=${found[0]}

mkdir -p "$cache"
# The Dataflow Compiler writes to it too.
export HOME=$cache

# Held until compile.py has ended: two runs would install and compile the same things twice.
exec 9> "$cache/lock"
if ! flock --nonblock 9; then
  echo 'Waiting for another run with this cache to end ...' >&2
  flock 9
fi
# Runs that were killed have left them.
rm -rf "$cache"/making-*

sum=$(sha256sum "$wheel")
venv=$cache/venv-${sum:0:32}
if [ ! -e "$venv/complete" ]; then
  echo "Installing $(basename "$wheel") into the cache, which takes some minutes and 5 GB ..." >&2
  rm -rf "$venv"
  # PyYAML comes from the system; NumPy from there or, in the version that it wants, with the compiler.
  python3 -m venv --system-site-packages "$venv"
  "$venv/bin/pip" install --quiet --no-cache-dir --disable-pip-version-check --find-links "$wheels" "$wheel" >&2
  # What is complete is so after a power loss too.
  sync --file-system "$venv"
  touch "$venv/complete"
fi

exec "$venv/bin/python" "$program" --cache "$cache" "$@"
