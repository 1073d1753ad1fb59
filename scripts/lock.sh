#!/usr/bin/env bash
# Writes requirements.lock from pyproject.toml, for every supported Python, with hashes and without the
# addresses they came from. Versions that are still allowed stay, unless --upgrade asks for the newest.
# Uses uv from PATH, or gets it into .venv-lock. The command without options is at the lock's head.
#
# Usage: scripts/lock.sh PYTHON [--upgrade]
set -euo pipefail
cd "$(dirname "$0")/.."

uv=$(command -v uv || true)
if [[ -z $uv ]]; then
    uv=.venv-lock/bin/uv
    if [[ ! -x $uv ]]; then
        scripts/system.sh "$1" venv
        "$1" -m venv .venv-lock
        .venv-lock/bin/python -m pip --disable-pip-version-check install --quiet uv
    fi
fi
"$uv" --quiet pip compile pyproject.toml --group dev --universal --generate-hashes --no-emit-index-url \
    --no-emit-find-links -o requirements.lock --python-version 3.11 "${@:2}"
echo "requirements.lock is written; run make test, then commit it together with pyproject.toml"
