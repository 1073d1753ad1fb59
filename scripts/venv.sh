#!/usr/bin/env bash
# Makes a virtual environment from requirements.lock: every file is checked against its hash, and this
# project is built with the setuptools from the lock, so nothing unlocked is ever downloaded.
# Does nothing when the environment is already what the lock and pyproject.toml say.
#
# Usage: scripts/venv.sh PYTHON DIRECTORY dev|runtime|dependencies
#   dev           everything, and vastproxy in development mode
#   runtime       what vastproxy needs to run, and vastproxy in development mode
#   dependencies  what vastproxy needs to run, without vastproxy
set -euo pipefail

python=$1 venv=$2 kind=$3
cd "$(dirname "$0")/.."

# An environment whose interpreter went away or is another version is made anew, and so is one without pip: somebody
# was interrupted while it was made.
version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
have=$("$venv/bin/python" -c 'import pip, sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null || true)
if [[ $have != "$version" ]]; then
    [[ -z $have ]] || echo "$venv is Python $have; making it anew for Python $version"
    rm -rf "$venv"
    echo "creating $venv with Python $version"
    "$python" -m venv "$venv"
fi

stamp="$venv/.made-from"
read_stamp() { sed -n "s/^$1 //p" "$stamp" 2>/dev/null || true; }
lock_sum=$(sha256sum <requirements.lock | cut -d' ' -f1)
project_sum=$(sha256sum <pyproject.toml | cut -d' ' -f1)
installed_kind=$(read_stamp kind) installed_lock=$(read_stamp lock) installed_project=$(read_stamp project)

# A development environment also serves those who only want to run.
if [[ $kind == runtime && $installed_kind == dev ]]; then
    kind=dev
fi
pip=("$venv/bin/python" -m pip --disable-pip-version-check --no-input)
# pip tries a connection again, but not a download that broke off.
install_locked() {
    for attempt in 1 2 3; do
        if "${pip[@]}" install --quiet --retries 10 --require-hashes "$@"; then
            return 0
        fi
        echo "pip failed (attempt $attempt of 3)" >&2
        sleep $((attempt * 5))
    done
    return 1
}
if [[ $installed_kind != "$kind" || $installed_lock != "$lock_sum" ]]; then
    echo "installing the locked packages ($kind) into $venv"
    requirements=requirements.lock
    if [[ $kind != dev ]]; then
        requirements="$venv/requirements.txt"
        "$venv/bin/python" scripts/lock_subset.py requirements.lock >"$requirements"
    fi
    rm -f "$stamp"
    # A package that comes as source only is built with the locked setuptools, hence first and no isolation.
    "$venv/bin/python" scripts/lock_subset.py requirements.lock setuptools >"$venv/builder.txt"
    install_locked --requirement "$venv/builder.txt"
    install_locked --no-build-isolation --use-pep517 --requirement "$requirements"
    installed_project=""
fi
if [[ $kind == dependencies ]]; then
    project_sum=none
elif [[ $installed_project != "$project_sum" ]]; then
    "${pip[@]}" install --quiet --no-deps --no-build-isolation --no-index --editable .
fi
printf 'kind %s\nlock %s\nproject %s\n' "$kind" "$lock_sum" "$project_sum" >"$stamp"
