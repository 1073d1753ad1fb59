#!/usr/bin/env bash
# Makes .venv-bench: the proxies that vastproxy is measured against, and what draws the plots. An environment of its
# own, because LiteLLM pins much of what vastproxy uses too. Does nothing when it is already what
# bench/requirements.txt says.
#
# Usage: scripts/bench_venv.sh PYTHON
set -euo pipefail

python=$1 venv=.venv-bench
cd "$(dirname "$0")/.."

version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
wanted="$version $(sha256sum <bench/requirements.txt | cut -d' ' -f1)"
stamp="$venv/.made-from"
[[ $(cat "$stamp" 2>/dev/null || true) != "$wanted" ]] || exit 0

echo "creating $venv with Python $version"
rm -rf "$venv"
"$python" -m venv "$venv"
"$venv/bin/python" -m pip --disable-pip-version-check --no-input install --quiet --retries 10 \
    --requirement bench/requirements.txt
printf '%s\n' "$wanted" >"$stamp"
