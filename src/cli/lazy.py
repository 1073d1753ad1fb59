"""Commands that are imported when they are typed: each needs a part of the program, and all of it takes a second."""

from collections.abc import Iterator, Mapping
from functools import cache
from importlib import import_module
from typing import Any

import typer.main
from typer.core import TyperGroup


class LazyCommands(Mapping[str, Any]):
    """Commands (typer's and click's) by name, each made at the first look at it.

    `places`: where each is: `module:function`, or `module:app` for a group of commands.
    """

    def __init__(self, places: Mapping[str, str]) -> None:
        self._places = places
        self._make = cache(make_command)

    def __getitem__(self, name: str) -> Any:
        return self._make(self._places[name])

    def __contains__(self, name: object) -> bool:
        return name in self._places

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)


def make_command(place: str) -> Any:
    """The command whose function is at `module:function`, or the group of commands at `module:app`."""
    module, _, name = place.partition(":")
    found = getattr(import_module(module), name)
    if isinstance(found, typer.Typer):
        return typer.main.get_group(found)
    alone = typer.Typer(add_completion=False, rich_markup_mode=None)
    alone.command()(found)
    return typer.main.get_command(alone)


class LazyGroup(TyperGroup):
    """A group of `LazyCommands`. Subclasses name their places."""

    places: Mapping[str, str]

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        self.commands: Any = LazyCommands(self.places)

    def list_commands(self, ctx: Any) -> list[str]:
        """The names, for which nothing needs to be imported."""
        return list(self.commands)
