"""What is shipped is what is here: packages, types, version, lock."""

import ast
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

import vastproxy
from scripts import backend
from scripts.lock_subset import Locked, parse_lock, runtime

ROOT = Path(__file__).resolve().parents[2]
LOCK = (ROOT / "requirements.lock").read_text()


@pytest.fixture(scope="module")
def config() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


@pytest.fixture(scope="module")
def locked() -> dict[str, Locked]:
    return parse_lock(LOCK)


def test_every_package_directory_goes_into_the_wheel(config: dict[str, Any]) -> None:
    """The list is written by hand; a forgotten room would work here and be missing from the wheel."""
    listed = config["tool"]["setuptools"]["packages"]
    found = {
        ".".join(("vastproxy", *init.parent.relative_to(ROOT / "src").parts))
        for init in (ROOT / "src").rglob("__init__.py")
    }
    assert found == set(listed)
    assert len(listed) == len(set(listed))


def test_every_source_file_is_in_a_package() -> None:
    for source in (ROOT / "src").rglob("*.py"):
        assert (source.parent / "__init__.py").is_file(), f"{source.parent} has no __init__.py"


def test_types_are_shipped(config: dict[str, Any]) -> None:
    assert (ROOT / "src" / "py.typed").is_file()
    assert "py.typed" in config["tool"]["setuptools"]["package-data"]["vastproxy"]


def test_the_import_name_is_a_link_for_checkers() -> None:
    link = ROOT / "vastproxy"
    assert link.is_symlink()
    assert link.readlink() == Path("src")


def test_nothing_of_ours_is_a_top_level_package(config: dict[str, Any]) -> None:
    """The official client owns `vastai`; `api`, `jobs` and `services` belong to nobody."""
    assert config["tool"]["setuptools"]["package-dir"] == {"vastproxy": "src"}
    assert all(name.split(".")[0] == "vastproxy" for name in config["tool"]["setuptools"]["packages"])


# version


def test_the_version_is_the_same_everywhere(config: dict[str, Any]) -> None:
    assert vastproxy.__version__ == config["project"]["version"]


def test_no_other_module_repeats_the_version(config: dict[str, Any]) -> None:
    version = config["project"]["version"]
    repeating = {path for path in (ROOT / "src").rglob("*.py") if f'"{version}"' in path.read_text()}
    assert repeating <= {ROOT / "src" / "__init__.py"}


def test_the_changelog_knows_the_version(config: dict[str, Any]) -> None:
    """Either work goes on above the last release, or this version has its own heading with a date."""
    changelog = (ROOT / "CHANGELOG.md").read_text()
    headings = re.findall(r"^## \[(.+?)\](?: - (\d{4}-\d{2}-\d{2}))?$", changelog, re.MULTILINE)
    assert headings
    assert headings[0] == ("Unreleased", "")
    released = [Version(name) for name, _ in headings[1:]]
    assert released == sorted(released, reverse=True)
    assert all(date for _, date in headings[1:]), "a release has a date"
    current = Version(config["project"]["version"])
    assert not released or current >= released[0]


# lock


def test_every_locked_file_has_a_hash(locked: dict[str, Locked]) -> None:
    assert locked
    for package in locked.values():
        assert any("--hash=sha256:" in line for line in package.lines), f"{package.name} has no hash"


def test_every_line_of_the_lock_is_understood(locked: dict[str, Locked]) -> None:
    """So that nothing is pinned in a form that the other tests would pass over."""
    code = [line for line in LOCK.splitlines() if line and not line.lstrip().startswith("#")]
    assert sorted(code) == sorted(line for package in locked.values() for line in package.lines)


def test_the_lock_names_no_address() -> None:
    """It works with any index; hashes say what is right."""
    assert "://" not in LOCK
    assert not re.search(r"^\s*(-i|-f|-e|--index-url|--extra-index-url|--find-links)\b", LOCK, re.MULTILINE)


def test_the_lock_satisfies_what_the_project_asks_for(
    config: dict[str, Any], locked: dict[str, Locked]
) -> None:
    asked = [
        *config["project"]["dependencies"],
        *config["dependency-groups"]["dev"],
        *config["build-system"]["requires"],
    ]
    for requirement in map(Requirement, asked):
        package = locked[canonicalize_name(requirement.name)]
        assert requirement.specifier.contains(package.version), (
            f"{requirement} is locked as {package.version}"
        )


def test_the_lock_says_whom_each_package_is_for(config: dict[str, Any], locked: dict[str, Locked]) -> None:
    """The runtime part is found by these notes: it holds each dependency and no tool for development."""
    names = {package.name for package in runtime(locked)}
    dependencies = {canonicalize_name(Requirement(text).name) for text in config["project"]["dependencies"]}
    tools = {canonicalize_name(Requirement(text).name) for text in config["dependency-groups"]["dev"]}
    assert dependencies <= names
    shared = {"h11"}  # uvicorn brings it, and tests use it as a client of their own
    assert not names & (tools - dependencies - shared)
    assert {need for package in locked.values() for need in package.via} <= {
        *locked,
        "vastproxy (pyproject.toml)",
        "vastproxy (pyproject.toml:dev)",
    }


def test_every_supported_python_is_declared(config: dict[str, Any]) -> None:
    assert config["project"]["requires-python"] == ">=3.11"
    declared = {
        text.rsplit(" :: ", 1)[1]
        for text in config["project"]["classifiers"]
        if text.startswith("Programming Language :: Python :: 3.")
    }
    workflow = (ROOT / ".github" / "workflows" / "ci.yml").read_text()
    assert declared <= set(re.findall(r'"(3\.\d+)"', workflow)), "CI runs on every supported Python"


# the compiled build


def compiled_modules() -> list[str]:
    """What setup.py compiles; it is not run."""
    tree = ast.parse((ROOT / "setup.py").read_text())
    (patterns,) = (
        ast.literal_eval(each.value)
        for each in tree.body
        if isinstance(each, ast.Assign) and ast.unparse(each.targets[0]) == "COMPILED"
    )
    for pattern in patterns:
        assert list((ROOT / "src").glob(pattern)), f"nothing is called {pattern}"
    return [str(path) for pattern in patterns for path in (ROOT / "src").glob(pattern)]


def test_what_is_compiled_is_there() -> None:
    assert len(compiled_modules()) > 50


def test_nothing_is_compiled_that_is_read_by_its_annotations() -> None:
    """msgspec's decoders and pydantic are made from annotations, of which the compiler keeps only a part."""
    for path in compiled_modules():
        text = Path(path).read_text()
        assert "Decoder(" not in text, path
        assert "pydantic" not in text, path


def test_errors_that_are_caught_in_one_try_have_names_of_their_own() -> None:
    """The compiler gives a name the type of its first clause, and raises TypeError in the others."""
    for path in compiled_modules():
        for each in ast.walk(ast.parse(Path(path).read_text())):
            if isinstance(each, ast.Try):
                names = [handler.name for handler in each.handlers if handler.name is not None]
                assert len(names) == len(set(names)), f"{path}:{each.lineno}"


def test_a_compiled_build_asks_for_the_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VASTPROXY_COMPILE", raising=False)
    assert not any(each.startswith("mypy>") for each in backend.get_requires_for_build_wheel())
    monkeypatch.setenv("VASTPROXY_COMPILE", "1")
    wanted = backend.get_requires_for_build_wheel()
    assert any(each.startswith("mypy>") for each in wanted)
    assert any(each.startswith("asyncssh") for each in wanted)
