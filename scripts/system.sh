#!/usr/bin/env bash
# Makes sure that the system programs are there which the tests talk to, and that Python can make a venv.
# Installs what is missing with apt when it may; otherwise says what to type. Does nothing when all is there.
#
# Usage: scripts/system.sh PYTHON [venv|bench]
#   venv    only what a virtual environment needs
#   bench   also what the bench measures with
set -euo pipefail

python=$1
scope=${2:-all}

fail() {
    echo "error: $*" >&2
    exit 1
}

command -v "$python" >/dev/null || fail "there is no $python; install Python 3.11 or newer, or name one: make PYTHON=/path/to/python3"
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
    fail "$python is $("$python" --version 2>&1); vastproxy needs Python 3.11 or newer: make PYTHON=/path/to/python3"

missing=()
if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
    if [[ "$("$python" -c 'import sys; print(sys.executable)')" == /usr/bin/* ]]; then
        missing+=("python$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')-venv")
    else
        fail "$python has no venv and ensurepip modules; use another Python: make PYTHON=/path/to/python3"
    fi
fi
if [[ $scope != venv ]]; then
    # /usr/sbin is not on every user's PATH.
    PATH="$PATH:/usr/sbin:/usr/local/sbin"
    command -v sshd >/dev/null || missing+=(openssh-server)
    { command -v ssh && command -v ssh-keygen; } >/dev/null || missing+=(openssh-client)
    command -v curl >/dev/null || missing+=(curl)
    command -v nginx >/dev/null || missing+=(nginx-light)
    command -v redis-server >/dev/null || missing+=(redis-server)
    command -v tmux >/dev/null || missing+=(tmux)
    command -v chromium >/dev/null || missing+=(chromium)
fi
if [[ $scope != venv ]]; then
    command -v gcc >/dev/null || missing+=(gcc libc6-dev)
    headers=$("$python" -c 'import os, sysconfig; print(os.path.join(sysconfig.get_path("include"), "Python.h"))')
    if [[ ! -e $headers ]]; then
        missing+=("libpython$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')-dev")
    fi
fi
if [[ $scope == bench ]]; then
    command -v wrk >/dev/null || missing+=(wrk)
    { command -v taskset && command -v setpriv; } >/dev/null || missing+=(util-linux)
fi
# sshd run by root refuses to start without it; only the system's service would make it.
if [[ $scope != venv && $(id -u) -eq 0 ]]; then
    mkdir -p -m 755 /run/sshd
fi
[[ ${#missing[@]} -gt 0 ]] || exit 0

if ! command -v apt-get >/dev/null; then
    fail "missing: ${missing[*]} (Debian's names). Install them with this system's package manager and run make again"
fi
if [[ $(id -u) -ne 0 ]]; then
    fail "missing: ${missing[*]}. Type: sudo apt-get install --yes --no-install-recommends ${missing[*]}"
fi

echo "installing ${missing[*]}"
export DEBIAN_FRONTEND=noninteractive
# The tests start their own sshd and nginx on loopback; the system's must not begin to listen because of them.
policy=/usr/sbin/policy-rc.d
if [[ ! -e $policy ]]; then
    trap 'rm -f "$policy"' EXIT
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 755 "$policy"
fi
for attempt in 1 2 3; do
    if apt-get -qq -o Acquire::Retries=3 update &&
        apt-get -qq -o Acquire::Retries=3 -o DPkg::Lock::Timeout=120 install --yes --no-install-recommends \
            "${missing[@]}" >/dev/null; then
        exit 0
    fi
    echo "apt-get failed (attempt $attempt of 3)" >&2
    dpkg --configure -a >/dev/null || true # an earlier run may have been interrupted
    sleep $((attempt * 5))
done
fail "apt-get could not install ${missing[*]}; see its messages above"
