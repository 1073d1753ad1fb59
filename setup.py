"""Compiles the path of a request to machine code, when that is asked for: VASTPROXY_COMPILE=1.

Everything else about the package stands in pyproject.toml. The same files run as they are, at about twice the CPU.

What the compiler (mypyc) asks of these files, beyond types that are right: an attribute that is deleted stands in
`__deletable__`; a class that others may build on outside of these files is marked by `mypyc_attr`; an attribute that a
call may change is not asked for twice in one function with another answer in mind, since mypy remembers the first; two
`except` clauses of one `try` name what they catch differently; no class body says that one method is another one; no
slice of bytes ends before it begins; what comes from foreign code is converted, and not believed, before it gets here;
a Protocol that others may name as a base stands in a file that is not compiled.
"""

import os
import sys
from pathlib import Path

from setuptools import setup

ROOT = Path(__file__).resolve().parent
#: What each request, or each piece of an answer, passes through; nothing else gains enough to be worth it.
COMPILED = (
    "services/deadline.py",
    "services/traces.py",
    "services/http1/*.py",
    "services/upstream/*.py",
    "services/dispatch/*.py",
    "services/routing/admission.py",
    "services/routing/ask_usage.py",
    "services/routing/candidate.py",
    "services/routing/hints.py",
    "services/routing/pool.py",
    "services/routing/ring.py",
    "services/routing/short.py",
    "services/routing/policies/*.py",
    "services/metrics/operations.py",
    "services/metrics/requests.py",
    "services/metrics/usage.py",
    "services/access/apikey.py",
    "services/access/callers.py",
    "services/access/limits.py",
    "services/backends/backend.py",
    "services/backends/engine.py",
    "services/backends/lanes.py",
    "services/backends/rids.py",
    "services/tunnels/aesgcm.py",
    "services/tunnels/delivery.py",
    "services/tunnels/fastpath.py",
    "services/tunnels/sending.py",
    "services/tunnels/stream.py",
    "api/access.py",
    "api/attempts.py",
    "api/connecting.py",
    "api/exchange.py",
    "api/forwarded.py",
    "api/front.py",
    "api/gathering.py",
    "api/guest.py",
    "api/proxy.py",
    "api/stages.py",
    "api/stripping.py",
    "api/tools.py",
    "api/upload.py",
    "api/wishes.py",
    "api/http/answer.py",
    "api/http/link.py",
    "api/http/message.py",
    "api/http/places.py",
    "api/http/protocol.py",
    "api/http/request.py",
)


def modules() -> list[str]:
    """The files to compile, by the import name's own path."""
    link = ROOT / "vastproxy"
    if not link.exists():  # an unpacked source distribution
        link.symlink_to("src")
    found = sorted({path for pattern in COMPILED for path in (ROOT / "src").glob(pattern)})
    return [
        str(Path("vastproxy") / path.relative_to(ROOT / "src"))
        for path in found
        if path.name != "__init__.py"
    ]


is_building = not {"build_ext", "bdist_wheel"}.isdisjoint(sys.argv)  # others only ask for names and versions
if is_building and os.environ.get("VASTPROXY_COMPILE") == "1":
    from mypyc.build import mypycify

    os.chdir(ROOT)
    # Types that cannot be found are unknown ones; that they are right is checked elsewhere (make check).
    options = ["--config-file=", "--ignore-missing-imports"]
    extensions = mypycify(
        [*options, *modules()], opt_level="2", debug_level="0", multi_file=True, group_name="vastproxy"
    )
else:
    extensions = []

setup(ext_modules=extensions)
