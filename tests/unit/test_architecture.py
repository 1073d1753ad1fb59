"""Files have one subject, functions fit on a screen. Names and imports: see ruff and import-linter."""

import ast
import sys
from collections.abc import Iterator
from importlib.metadata import packages_distributions, requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
SOURCES = sorted((ROOT / "src").rglob("*.py"))

#: What `import vastproxy` offers.
FACE = ROOT / "src/__init__.py"

MAX_FILE_LINES = 300
MAX_FUNCTION_LINES = 60

#: Longer files, each with its reason. Empty is what it should be.
LONG_FILES: dict[str, str] = {}

Function = ast.FunctionDef | ast.AsyncFunctionDef


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def functions(tree: ast.AST) -> Iterator[Function]:
    return (node for node in ast.walk(tree) if isinstance(node, Function))


def length(function: Function) -> int:
    """Lines of a function without its docstring, which is the caller's, not the reader's burden."""
    end = function.end_lineno
    assert end is not None
    lines = end - function.lineno + 1
    first = function.body[0]
    if ast.get_docstring(function) is not None and first.end_lineno is not None:
        lines -= first.end_lineno - first.lineno + 1
    return lines


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_a_file_has_one_subject(path: Path) -> None:
    lines = len(path.read_text().splitlines())
    allowed = name_of(path) in LONG_FILES
    assert allowed or lines <= MAX_FILE_LINES, f"{lines} lines; split it by subject"
    assert not allowed or lines > MAX_FILE_LINES, "no longer too long; take it off the list"


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_a_function_fits_on_a_screen(path: Path) -> None:
    long = {
        f.name: length(f) for f in functions(ast.parse(path.read_text())) if length(f) > MAX_FUNCTION_LINES
    }
    assert not long


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_a_module_says_what_it_is_about(path: Path) -> None:
    docstring = ast.get_docstring(ast.parse(path.read_text()))
    assert docstring, "no docstring"
    assert docstring.splitlines()[0].strip(), "its first line is empty"


@pytest.mark.parametrize("path", [path for path in SOURCES if path != FACE], ids=name_of)
def test_imports_for_checkers_only_do_not_hide_a_cycle(path: Path) -> None:
    """`if TYPE_CHECKING` is how a cycle between modules is usually kept; without it there is none. The package's own
    face names what it offers without loading it, and below it nobody imports more of it than the version."""
    names = {node.id for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Name)}
    assert "TYPE_CHECKING" not in names


@pytest.mark.parametrize("path", [path for path in SOURCES if path != FACE], ids=name_of)
def test_nobody_below_looks_at_the_face(path: Path) -> None:
    """What is offered to others is imported here from where it is."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module == "vastproxy":
            assert [alias.name for alias in node.names] == ["__version__"]


def test_the_list_of_long_files_names_files_that_exist() -> None:
    assert set(LONG_FILES) <= set(map(name_of, SOURCES))


def test_every_third_party_library_is_declared() -> None:
    """A library that only comes along with another one may leave with it."""
    declared = {canonicalize_name(Requirement(text).name) for text in requires("vastproxy") or ()}
    owners = packages_distributions()
    for path in SOURCES:
        for top in imported(ast.parse(path.read_text())) - sys.stdlib_module_names - {"vastproxy"}:
            assert {canonicalize_name(owner) for owner in owners[top]} & declared, (
                f"{name_of(path)} imports {top}"
            )


def imported(tree: ast.AST) -> set[str]:
    """Top-level names of everything a file imports."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module.split(".")[0])
    return found
