"""Builds the package: setuptools' own backend, which is asked for more where the path of a request is compiled.

`VASTPROXY_COMPILE=1 pip install .` needs a C compiler, the headers of Python, and these packages besides setuptools:
mypy's compiler, and what vastproxy imports, since types say what is compiled to what. See setup.py.
"""

import os
import tomllib
from pathlib import Path
from typing import Any

from setuptools.build_meta import (
    build_editable,
    build_sdist,
    build_wheel,
    get_requires_for_build_editable,
    get_requires_for_build_sdist,
    prepare_metadata_for_build_editable,
    prepare_metadata_for_build_wheel,
)

__all__ = [
    "build_editable",
    "build_sdist",
    "build_wheel",
    "get_requires_for_build_editable",
    "get_requires_for_build_sdist",
    "get_requires_for_build_wheel",
    "prepare_metadata_for_build_editable",
    "prepare_metadata_for_build_wheel",
]

PROJECT = Path(__file__).resolve().parents[1] / "pyproject.toml"


def get_requires_for_build_wheel(config_settings: Any = None) -> list[str]:
    """See PEP 517."""
    if os.environ.get("VASTPROXY_COMPILE") != "1":
        return []
    project = tomllib.loads(PROJECT.read_text(encoding="utf-8"))
    compiler = [each for each in project["dependency-groups"]["dev"] if each.startswith("mypy>")]
    return [*compiler, *project["project"]["dependencies"]]
