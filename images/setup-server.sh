#!/usr/bin/env bash
# Puts what building the images takes on a fresh server.
set -euo pipefail

usage() {
  cat << 'HELP'
Usage: [sudo] images/setup-server.sh [--check]

Puts what building the images takes on a server with Debian 13, Ubuntu 24.04 or newer: Docker Engine with Buildx and
Compose, QEMU for the other architecture, and a builder for both, named hailo-inference. All of it is from the
distribution's own packages. What is there already stays as it is, also from Docker's own packages.

The builder is its maker's: root's with sudo. Members of the group docker, who are as good as root, make theirs without.

  --check   say what is there and what is missing, and change nothing
  --help    this text

Exit code: 0 all is there, 1 something is missing, 64 wrong usage.
HELP
}

BUILDER=hailo-inference
PLATFORMS=linux/amd64,linux/arm64
PARTS=(engine client buildx compose emulation daemon builder)

case $(uname -m) in
  aarch64) FOREIGN=x86_64 ;;
  *) FOREIGN=aarch64 ;;
esac

runs_systemd() { [ -d /run/systemd/system ]; }

# Whether a part is there. Where no systemd runs, as in a container, nobody starts a daemon or registers QEMU, and a
# builder takes a daemon.
has_engine() { command -v dockerd; }
has_client() { command -v docker; }
has_buildx() { docker buildx version; }
has_compose() { docker compose version; }
has_emulation() {
  { command -v "qemu-$FOREIGN-static" || command -v "qemu-$FOREIGN"; } &&
    { ! runs_systemd || [ -e "/proc/sys/fs/binfmt_misc/qemu-$FOREIGN" ]; }
}
has_daemon() { ! runs_systemd || { systemctl is-active docker && systemctl is-enabled docker; }; }
has_builder() { docker buildx inspect "$BUILDER" || { ! runs_systemd && ! docker version; }; }

has() { "has_$1" > /dev/null 2>&1; }

# The package that brings a part, under the first of its names that this release has.
package_of() {
  local names name
  case $1 in
    engine) names=docker.io ;;
    client) names='docker-cli docker.io' ;; # one package on Ubuntu
    buildx) names=docker-buildx ;;
    compose) names='docker-compose-v2 docker-compose' ;;
    emulation) names=qemu-user-static ;;
    *) return 0 ;;
  esac
  for name in $names; do
    if apt-cache show "$name" > /dev/null 2>&1; then
      echo "$name"
      return
    fi
  done
  echo "This release has no package $name. Use Debian 13 or Ubuntu 24.04, or install Docker from its own packages" >&2
  return 1
}

install_packages() {
  local part package packages=()
  apt-get update -qq
  for part in "$@"; do
    package=$(package_of "$part")
    if [ -n "$package" ]; then packages+=("$package"); fi
  done
  if [ ${#packages[@]} -eq 0 ]; then return; fi
  echo "installing ${packages[*]}"
  DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends "${packages[@]}" > /dev/null
}

missing_parts() {
  local part
  for part in "${PARTS[@]}"; do
    if ! has "$part"; then echo "$part"; fi
  done
}

report() {
  local part status=0
  for part in "${PARTS[@]}"; do
    if has "$part"; then
      echo "ok       $part"
    else
      echo "missing  $part"
      status=1
    fi
  done
  return $status
}

set_up() {
  local missing
  mapfile -t missing < <(missing_parts)
  if [ ${#missing[@]} -gt 0 ] && [ "${missing[*]}" != builder ]; then
    if [ "$(id -u)" != 0 ]; then
      echo 'Run it as root: sudo images/setup-server.sh' >&2
      exit 1
    fi
    install_packages "${missing[@]}"
    if ! has daemon; then systemctl enable --now docker; fi
    if ! has emulation; then systemctl restart systemd-binfmt; fi
  fi
  if ! has builder; then
    echo "making the builder $BUILDER"
    docker buildx create --name "$BUILDER" --driver docker-container --platform "$PLATFORMS" > /dev/null
  fi
  report
}

case ${1-} in
  '') set_up ;;
  --check) report ;;
  --help) usage ;;
  *)
    usage >&2
    exit 64
    ;;
esac
