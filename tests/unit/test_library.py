"""`import vastproxy`: what it offers, that it costs nothing, and that checkers see the same as Python."""

import ast
import importlib
import inspect
import re
import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest
from uvicorn.importer import import_from_string

import vastproxy
from vastproxy.services.events import FleetEvent
from vastproxy.vastai import errors as vast_errors

ROOT = Path(__file__).parents[2]
SOURCE = (ROOT / "src/__init__.py").read_text()


def declared() -> dict[str, str]:
    """Name -> module, of the imports that checkers see."""
    (block,) = (node for node in ast.parse(SOURCE).body if isinstance(node, ast.If))
    return {
        alias.name: str(node.module)
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }


def test_checkers_and_python_find_the_same() -> None:
    """A name comes from the same module whether mypy reads the file or Python runs it; `__all__` lists them all."""
    assert declared() == {name: f"vastproxy.{module}" for name, module in vastproxy._MODULE_OF.items()}
    assert set(vastproxy.__all__) == {*declared(), "__version__"}


@pytest.mark.parametrize("name", sorted(declared()))
def test_a_public_name_leads_to_what_it_is_called(name: str) -> None:
    """And it is documented where it is defined."""
    value = getattr(vastproxy, name)
    assert value is getattr(importlib.import_module(declared()[name]), name)
    assert name in dir(vastproxy)
    if inspect.isclass(value) or inspect.isroutine(value):
        assert inspect.getdoc(value), f"{name} has no docstring"


def test_other_names_are_refused_as_python_does() -> None:
    with pytest.raises(AttributeError, match="module 'vastproxy' has no attribute 'Fleets'"):
        vastproxy.Fleets  # noqa: B018


def test_the_whole_family_is_there() -> None:
    """Every event of the fleet, and every error of the vast.ai client: nobody has to look for one elsewhere."""
    assert {event.__name__ for event in get_args(FleetEvent)} <= set(vastproxy.__all__)
    kinds = {
        name
        for name, value in vars(vast_errors).items()
        if isinstance(value, type) and issubclass(value, vastproxy.VastproxyError)
    }
    assert kinds <= set(vastproxy.__all__)


def _modules_after(code: str) -> set[str]:
    program = f"{code}\nimport sys\nprint('\\n'.join(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True, timeout=30
    )
    return set(done.stdout.split())


def test_importing_it_imports_nothing_else() -> None:
    """So that a program, and the command line's help, pay only for what they use."""
    loaded = _modules_after("import vastproxy")
    assert {name for name in loaded if name.startswith("vastproxy.")} == set()
    assert loaded & {"requests", "pydantic", "starlette", "asyncssh"} == set()


def test_the_client_alone_does_not_bring_the_proxy() -> None:
    loaded = _modules_after("import vastproxy; vastproxy.VastClient")
    assert loaded & {"starlette", "asyncssh", "uvicorn", "typer", "rich", "textual"} == set()


def test_the_version_is_that_of_the_project() -> None:
    found = re.search(r'(?m)^version = "(.+)"$', (ROOT / "pyproject.toml").read_text())
    assert found is not None
    assert vastproxy.__version__ == found[1]


def test_servers_find_the_factory_by_its_public_name() -> None:
    """`uvicorn --factory vastproxy:create_app`, as the documents say."""
    assert import_from_string("vastproxy:create_app") is vastproxy.create_app
