"""Build the source distribution, the wheel from it, and see that the wheel works where the repository is not.

Usage: python scripts/wheel_check.py CLEAN_VENV

CLEAN_VENV holds the runtime dependencies and no vastproxy (scripts/venv.sh … dependencies). Leaves both
files in dist/. Needs no network: the build backend is the one of the running interpreter.
"""

import subprocess
import sys
import tarfile
import tempfile
import tomllib
import zipfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
DIST = ROOT / "dist"

BACKEND = "import sys; from setuptools import build_meta; print(build_meta.build_{kind}(sys.argv[1]))"

IMPORTS = """
import importlib, importlib.metadata, importlib.util, sys
repository, *packages = sys.argv[1:]
for name in packages:
    path = importlib.import_module(name).__file__
    assert not path.startswith(repository + "/src"), f"{name} comes from the repository: {path}"
for leaked in ("api", "cli", "jobs", "services", "settings", "simulator", "src", "vastai"):
    assert importlib.util.find_spec(leaked) is None, f"a top-level package {leaked} is importable"
import vastproxy
assert importlib.metadata.version("vastproxy") == vastproxy.__version__
print(vastproxy.__version__)
"""


def fail(message: str) -> None:
    raise SystemExit(f"wheel check: {message}")


def run(*command: str | Path, cwd: Path) -> str:
    """What a command wrote to its standard output; ends the check when it fails."""
    done = subprocess.run(
        [str(word) for word in command], cwd=cwd, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        fail(f"{' '.join(map(str, command[:3]))} … failed:\n{done.stdout}{done.stderr}")
    return done.stdout


def build(kind: str, source: Path) -> Path:
    """Build an `sdist` or a `wheel` of the tree at `source` into DIST."""
    output = run(sys.executable, "-c", BACKEND.format(kind=kind), DIST, cwd=source)
    return DIST / output.splitlines()[-1]


def extract(archive: tarfile.TarFile, target: Path) -> None:
    """Unpack our own archive. Python 3.11 has `filter` from 3.11.4 on; from 3.12 on its absence warns."""
    if hasattr(tarfile, "data_filter"):
        archive.extractall(target, filter="data")
    else:
        archive.extractall(target)


def build_both(scratch: Path) -> Path:
    """The wheel, built from the unpacked source distribution, which is so shown to be complete."""
    DIST.mkdir(exist_ok=True)
    for old in (*DIST.glob("vastproxy-*.whl"), *DIST.glob("vastproxy-*.tar.gz")):
        old.unlink()
    with tarfile.open(build("sdist", ROOT)) as archive:
        extract(archive, scratch)
    (source,) = scratch.iterdir()
    return build("wheel", source)


def project() -> dict[str, Any]:
    """pyproject.toml."""
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


def source_files() -> set[str]:
    """Every file below src/, by its name in the wheel."""
    files = (path for path in (ROOT / "src").rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return {f"vastproxy/{path.relative_to(ROOT / 'src').as_posix()}" for path in files}


def check_content(wheel: Path) -> None:
    """Everything of src/ is in the wheel, and nothing beside vastproxy is at its top level."""
    names = set(zipfile.ZipFile(wheel).namelist())
    stray = {name.split("/")[0] for name in names} - {"vastproxy"}
    if any(not name.endswith(".dist-info") for name in stray):
        fail(f"{wheel.name} has top-level entries beside vastproxy: {sorted(stray)}")
    if lost := sorted(source_files() - names):
        fail(f"{wheel.name} lacks {', '.join(lost)}; see packages and package-data in pyproject.toml")


def check_installed(wheel: Path, venv: Path, elsewhere: Path) -> str:
    """The wheel imports and answers in an environment of its own. Returns its version."""
    python = venv / "bin" / "python"
    pip = (python, "-m", "pip", "--disable-pip-version-check")
    run(*pip, "install", "--quiet", "--no-index", "--no-deps", "--force-reinstall", wheel, cwd=elsewhere)
    try:
        packages = project()["tool"]["setuptools"]["packages"]
        version = run(python, "-c", IMPORTS, ROOT, *packages, cwd=elsewhere).strip()
        said = run(venv / "bin" / "vastproxy", "--version", cwd=elsewhere).strip()
        if version not in said:
            fail(f"`vastproxy --version` says {said!r}, not {version}")
        run(*pip, "check", cwd=elsewhere)
    finally:
        run(*pip, "uninstall", "--quiet", "--yes", "vastproxy", cwd=elsewhere)
    return version


def main() -> None:
    venv = Path(sys.argv[1]).absolute()
    with tempfile.TemporaryDirectory() as scratch, tempfile.TemporaryDirectory() as elsewhere:
        wheel = build_both(Path(scratch))
        check_content(wheel)
        version = check_installed(wheel, venv, Path(elsewhere))
    print(f"wheel check: {wheel.relative_to(ROOT)} installs, imports and answers as {version}")


if __name__ == "__main__":
    main()
