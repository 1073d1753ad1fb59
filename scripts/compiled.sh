#!/usr/bin/env bash
# Makes build/compiled: this tree with the path of a request compiled in place (setup.py), for the tests and the bench.
# What was compiled from the same sources is used again.
#
# Usage: scripts/compiled.sh PYTHON, of an environment for development
set -euo pipefail

python=$(realpath --no-symlinks "$1")
cd "$(dirname "$0")/.."
target=build/compiled
sum=$({ find src -name '*.py' -print0 | sort -z | xargs -0 cat; cat setup.py "$0"; "$python" -VV; } | sha256sum | cut -d' ' -f1)

mkdir -p "$target"
if [[ $(cat "$target/.made-from" 2>/dev/null || true) != "$sum" ]]; then
    rm -f "$target/.made-from" # first: who is interrupted here has made nothing
    rm -rf "${target:?}"/src "${target:?}"/build
    cp -R src setup.py "$target/"
    [[ -e $target/vastproxy ]] || ln -s src "$target/vastproxy"
    echo "compiling the path of a request into $target"
    log=build/compiled.log cores=$(scripts/cores.sh)
    if ! (cd "$target" && VASTPROXY_COMPILE=1 "$python" setup.py build_ext --inplace --parallel "$cores") >"$log" 2>&1; then
        grep -E ' error: |Error: ' "$log" >&2 || tail -20 "$log" >&2
        echo "error: compiling failed; the whole output is in $log" >&2
        exit 1
    fi
    echo "$sum" >"$target/.made-from"
fi
# All else that tests and the bench look at. Where git tells nothing (another one's checkout, no checkout at all), all
# that is here but what was built.
for each in $(git ls-files 2>/dev/null | cut -d/ -f1 | sort -u || ls); do
    case $each in src | setup.py | vastproxy | build | dist) ;; *) rm -rf "${target:?}/$each" && cp -R "$each" "$target/" ;; esac
done
