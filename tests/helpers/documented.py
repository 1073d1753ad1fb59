"""What the documents have to tell of, collected from the code itself: log lines, error codes, exit codes, events."""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from vastproxy.services.events import FleetEvent

SOURCE = Path(__file__).parents[2] / "src"

_LOGGED = frozenset({"warning", "error", "exception", "critical", "log"})
_PLACE = re.compile(r"%[-+ #0]*[\d.]*[sdrgfcx]")
#: In which place each call has the code that a client is answered.
_CODE_AT = {"ApiError": 3, "WebhookRefused": 1, "refusal": 2}
#: Tables from which codes are taken.
_CODE_TABLES = frozenset({"_BAD_REQUEST_CODES"})


@dataclass(frozen=True, slots=True)
class LogLine:
    """A line that is written as a warning or worse. `text` has `…` where values go."""

    file: str
    text: str


def trees() -> Iterator[tuple[str, ast.Module]]:
    """Every module of the program, by its path below the source."""
    for path in sorted(SOURCE.rglob("*.py")):
        yield path.relative_to(SOURCE).as_posix(), ast.parse(path.read_text())


def log_lines() -> Iterator[LogLine]:
    """Every line that some logger may write as a warning or worse; at a level that is worked out, it counts as one."""
    for file, tree in trees():
        for function in ast.walk(tree):
            if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
                for call in _calls(function):
                    if (template := _template(call)) is not None:
                        yield LogLine(file, _PLACE.sub("…", _text(template, function)))


def _calls(tree: ast.AST) -> Iterator[ast.Call]:
    return (node for node in ast.walk(tree) if isinstance(node, ast.Call))


def _template(call: ast.Call) -> ast.expr | None:
    target = call.func
    if isinstance(target, ast.Name) and target.id == "Line":  # what `log_event` writes
        return _unless_quiet(call)
    if not isinstance(target, ast.Attribute) or target.attr not in _LOGGED:
        return None
    if ast.unparse(target.value).rpartition(".")[2] not in {"logger", "_logger"}:
        return None
    if target.attr != "log":
        return call.args[0]
    return None if ast.unparse(call.args[1]) == "line.template" else _unless_quiet(call)


def _unless_quiet(call: ast.Call) -> ast.expr | None:
    level = ast.unparse(call.args[0])
    return None if level in {"logging.INFO", "logging.DEBUG"} else call.args[1]


def _text(template: ast.expr, function: ast.AST) -> str:
    """The text of a constant, or of a name that is one within its function."""
    if isinstance(template, ast.Name):
        name = template.id
        for node in ast.walk(function):
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == name:
                template = node.value
    if isinstance(template, ast.Constant) and isinstance(template.value, str):
        return template.value
    raise AssertionError(f"the text of a log line must be readable here: {ast.unparse(template)}")


def error_codes() -> dict[str, str]:
    """Every `code` that the API may answer with, and a file that has it."""
    found: dict[str, str] = {}
    for file, tree in trees():
        for node in ast.walk(tree):
            for code in _codes(node):
                found.setdefault(code, file)
    return found


def _codes(node: ast.AST) -> Iterator[str]:
    """The constants at one place that are such a code."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
        place = _CODE_AT.get(node.func.id)
        if place is not None and len(node.args) > place:
            yield from _constants(node.args[place])
    elif isinstance(node, ast.ClassDef):
        for line in node.body:
            if isinstance(line, ast.Assign | ast.AnnAssign) and line.value is not None:
                target = line.targets[0] if isinstance(line, ast.Assign) else line.target
                if ast.unparse(target) == "code" and _is_error(node):
                    yield from _constants(line.value)
    elif isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) in _CODE_TABLES:
        assert isinstance(node.value, ast.Dict)
        for value in node.value.values:
            yield from _constants(value)


def _is_error(node: ast.ClassDef) -> bool:
    return (
        any(ast.unparse(base).endswith(("Error", "Refusal")) for base in node.bases) or node.name == "Refusal"
    )


def _constants(node: ast.AST) -> Iterator[str]:
    for part in ast.walk(node):
        if isinstance(part, ast.Constant) and isinstance(part.value, str):
            yield part.value


def exit_codes() -> set[int]:
    """The codes with which a command may end because of an error of ours, besides 0."""
    found = set()
    for _, tree in trees():
        for node in ast.walk(tree):
            if isinstance(node, ast.Assign | ast.AnnAssign) and isinstance(node.value, ast.Constant):
                target = node.targets[0] if isinstance(node, ast.Assign) else node.target
                if ast.unparse(target) in {"exit_code", "INTERRUPTED"} and isinstance(node.value.value, int):
                    found.add(node.value.value)
    return found


def event_types() -> set[str]:
    """The names of what the fleet tells those who listen."""
    return {event.__name__ for event in get_args(FleetEvent)}


def patterns(page: str) -> list[str]:
    """The texts in backticks in the tables of a page: what it says is a message, with `…` where values go."""
    rows = [line for line in page.splitlines() if line.startswith("|")]
    return [found for row in rows for found in re.findall(r"`([^`]+)`", row.split("|")[1])]


def is_told(text: str, told: list[str]) -> bool:
    """Is there a text among those told that says this one? `…` stands for anything, and is not all of it."""
    return text in told or any(
        re.fullmatch(".*".join(map(re.escape, one.split("…"))), text, re.DOTALL) is not None
        for one in told
        if len(one.replace("…", "").strip()) >= 8
    )
