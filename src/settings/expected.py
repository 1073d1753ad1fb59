"""Says in words what a type accepts, for errors and for the documentation."""

import types
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import SecretStr
from pydantic.fields import FieldInfo


@dataclass(frozen=True, slots=True)
class Expected:
    """Words for a type that cannot be described by its bounds; stands in `Annotated[...]`."""

    text: str


_NAMES: dict[Any, str] = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "text",
    SecretStr: "env:NAME or file:PATH",
}


def describe(annotation: Any, metadata: tuple[Any, ...] = ()) -> str:
    """What a value of this annotation must be, such as "a whole number from 1 to 65535"."""
    if get_origin(annotation) is Annotated:
        inner, *own = get_args(annotation)
        return describe(inner, (*_flat(own), *metadata))
    for item in metadata:
        if isinstance(item, Expected):
            return item.text
    if get_origin(annotation) in (Union, types.UnionType):
        choices = (choice for choice in get_args(annotation) if choice is not types.NoneType)
        return " or ".join(describe(choice, metadata) for choice in choices)
    if get_origin(annotation) is Literal:
        options = ", ".join(str(option) for option in get_args(annotation))
        return options if len(get_args(annotation)) == 1 else f"one of {options}"
    if get_origin(annotation) is tuple:
        return f"a list; each entry: {describe(get_args(annotation)[0])}"
    name = _NAMES.get(annotation, "a JSON value")
    return " ".join(part for part in (name, _bounds(metadata)) if part)


def _flat(metadata: list[Any]) -> list[Any]:
    """Field(...) inside Annotated carries its bounds in a list of its own."""
    return [
        inner for item in metadata for inner in (item.metadata if isinstance(item, FieldInfo) else [item])
    ]


def _bounds(metadata: tuple[Any, ...]) -> str:
    low = high = ""
    inclusive = False
    for item in metadata:
        # Bounds come as objects with one attribute each, named as in Field(...).
        if (at_least := getattr(item, "ge", None)) is not None:
            low, inclusive = f"{at_least}", True
        if (above := getattr(item, "gt", None)) is not None:
            low = f"{above}"
        if (at_most := getattr(item, "le", None)) is not None:
            high = f"{at_most}"
    if low and high and inclusive:
        return f"from {low} to {high}"
    parts = (
        (f"at least {low}" if inclusive else f"above {low}") if low else "",
        f"at most {high}" if high else "",
    )
    return " and ".join(part for part in parts if part)
