"""The settings as a flat list: every leaf of the model with its dotted path and its names."""

import functools
import types
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, get_args, get_origin

from pydantic import BaseModel, ConfigDict, SecretStr, TypeAdapter
from pydantic.fields import FieldInfo

from vastproxy.settings.expected import describe
from vastproxy.settings.model import Settings

PREFIX = "VASTPROXY_"
#: Names the config file; not a setting, since the settings stand in it.
CONFIG_VARIABLE = "VASTPROXY_CONFIG"
#: The short names. Everything else is called VASTPROXY_<SECTION>__<KEY>.
ALIASES: Mapping[str, str] = types.MappingProxyType(
    {
        "VAST_URL": "vast.url",
        "SSH_KEY_PATH": "tunnels.key_path",
        "LISTEN_ADDR": "server.listen",
        "VASTPROXY_LABEL": "fleet.label",
        "VASTPROXY_ENV": "environment",
        "VASTPROXY_API_KEYS": "server.api_keys",
    }
)


@dataclass(frozen=True, slots=True)
class Leaf:
    """One setting. `section` is the docstring of the group it stands in."""

    path: str
    field: FieldInfo

    @property
    def annotation(self) -> Any:
        return self.field.annotation

    @property
    def is_secret(self) -> bool:
        return _mentions(self.annotation, SecretStr)

    @property
    def is_list(self) -> bool:
        return get_origin(self.annotation) is tuple

    @property
    def is_scalar(self) -> bool:
        """Can its text be taken as it is? Lists and groups in text need a syntax."""
        return not _mentions(self.annotation, tuple, dict, BaseModel)

    @property
    def default(self) -> Any:
        return self.field.get_default(call_default_factory=True, validated_data={})

    @property
    def description(self) -> str:
        return " ".join((self.field.description or "").split())

    @property
    def expected(self) -> str:
        return describe(self.annotation, tuple(self.field.metadata))

    @property
    def variable(self) -> str:
        """The name in the environment; the short one where there is one."""
        return _short_names().get(self.path) or canonical_variable(self.path)

    def adapter(self) -> TypeAdapter[Any]:
        """Checks one value of this setting, without the rest."""
        return _adapter(self.path)


def canonical_variable(path: str) -> str:
    """VASTPROXY_<SECTION>__<KEY>."""
    return PREFIX + path.upper().replace(".", "__")


@functools.cache
def leaves() -> Mapping[str, Leaf]:
    """Every setting by its dotted path, in the order of the model."""
    return types.MappingProxyType({leaf.path: leaf for leaf in _walk(Settings, "")})


@functools.cache
def sections() -> frozenset[str]:
    """The dotted paths of all groups."""
    return frozenset(
        ".".join(parts[:end])
        for parts in (path.split(".") for path in leaves())
        for end in range(1, len(parts))
    )


@functools.cache
def variables() -> Mapping[str, str]:
    """Environment variable -> dotted path, for every name that sets something."""
    names = {canonical_variable(path): path for path in leaves() if "." in path}
    return types.MappingProxyType({**names, **ALIASES})


@functools.cache
def _short_names() -> Mapping[str, str]:
    return {path: variable for variable, path in ALIASES.items()}


@functools.cache
def _adapter(path: str) -> TypeAdapter[Any]:
    field = leaves()[path].field
    annotated: Any = Annotated[field.annotation, field]
    return TypeAdapter(annotated, config=ConfigDict(allow_inf_nan=False, hide_input_in_errors=True))


def _walk(model: type[BaseModel], prefix: str) -> Iterator[Leaf]:
    for name, field in model.model_fields.items():
        annotation = field.annotation
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            yield from _walk(annotation, f"{prefix}{name}.")
        else:
            yield Leaf(f"{prefix}{name}", field)


def _mentions(annotation: Any, *wanted: type) -> bool:
    """Does one of these types occur anywhere in the annotation?"""
    if isinstance(annotation, type) and get_origin(annotation) is None:
        return issubclass(annotation, wanted)
    origin = get_origin(annotation)
    return origin in wanted or any(_mentions(inner, *wanted) for inner in get_args(annotation))
