#!/bin/sh
# Installs what sidecar.py needs, from Debian's packages: FastAPI and pydantic, of the release it runs on (pydantic 1 on
# Debian 12, pydantic 2 on Debian 13), and uvicorn with its fast loop and parser.
#
#   bench/peers/install.sh [--root <folder with another Debian>]
set -eu

run=
case "${1:-}" in
  '') ;;
  --root) run="chroot ${2:?a folder with another Debian}" ;;
  *)
    echo "usage: $0 [--root <folder with another Debian>]" >&2
    exit 2
    ;;
esac

$run apt-get update -qq
$run env DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends \
  python3-fastapi python3-pydantic python3-uvicorn python3-uvloop python3-httptools
