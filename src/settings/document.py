"""Writes what is generated from the model: `python -m vastproxy.settings.document FILE…`.

A file ending in .json becomes the JSON Schema; in any other file the text between the two markers
becomes the tables of all settings.
"""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from vastproxy.settings.fields import Leaf, leaves
from vastproxy.settings.model import Settings
from vastproxy.settings.schema import settings_schema

BEGIN = "<!-- begin: generated from the settings model -->"
END = "<!-- end -->"


def schema_text() -> str:
    """The committed form of the schema."""
    return json.dumps(settings_schema(), indent=2) + "\n"


def settings_tables() -> str:
    """One Markdown table per group of settings, with the names, what is accepted, the default and why."""
    groups: dict[str, list[Leaf]] = {}
    for leaf in leaves().values():
        groups.setdefault(leaf.path.rpartition(".")[0], []).append(leaf)
    return "\n".join(_table(group, members) for group, members in groups.items())


def with_tables(text: str) -> str:
    """The document with the part between the markers replaced. Raises ValueError if a marker is missing."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"expected the lines {BEGIN} and {END}")
    return f"{before}{BEGIN}\n\n{settings_tables()}\n{END}{after}"


def main(arguments: Sequence[str]) -> None:
    """Write the named files anew."""
    for argument in arguments:
        path = Path(argument)
        text = schema_text() if path.suffix == ".json" else with_tables(path.read_text(encoding="utf-8"))
        path.write_text(text, encoding="utf-8")


def _table(group: str, members: Sequence[Leaf]) -> str:
    lines = [f"### {group or 'At the top'}", ""]
    if about := _about(group):
        lines += [about, ""]
    lines += ["| Setting | Environment variable | Accepts | Default | Meaning |", "|---|---|---|---|---|"]
    for leaf in members:
        cells = (
            f"`{leaf.path}`",
            f"`{leaf.variable}`",
            leaf.expected,
            _default(leaf.default),
            leaf.description,
        )
        lines.append("| " + " | ".join(_cell(cell) for cell in cells) + " |")
    return "\n".join([*lines, ""])


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "\\<")


def _about(group: str) -> str:
    model: type[BaseModel] = Settings
    note = ""
    for name in filter(None, group.split(".")):
        field = model.model_fields[name]
        note = field.description or ""
        inner: Any = field.annotation
        model = inner
    if model is Settings:
        return ""
    return " ".join((note or model.__doc__ or "").split())


def _default(value: Any) -> str:
    if value is None or value == ():
        return "none"
    if isinstance(value, (tuple, bool, float)):
        value = json.dumps(value) if not isinstance(value, float) else f"{value:g}"
    return f"`{value}`"


if __name__ == "__main__":
    main(sys.argv[1:])
