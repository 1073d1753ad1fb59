"""What somebody may have meant by a name that is no setting."""

import difflib
from collections.abc import Iterable

from vastproxy.settings.fields import CONFIG_VARIABLE, PREFIX, leaves, sections, variables

# Words that other servers use for what has another name here.
_SYNONYMS = {
    "port": "server.listen",
    "host": "server.listen",
    "bind": "server.listen",
    "address": "server.listen",
    "addr": "server.listen",
    "debug": "logging.level",
    "log_level": "logging.level",
    "log_format": "logging.format",
    "ssh_key": "tunnels.key_path",
}


def suggest_path(path: str) -> str:
    """The end of an error about an unknown dotted path: the nearest name, or where all names are."""
    parent, _, name = path.rpartition(".")
    known = [one for one in (*leaves(), *sections()) if one != parent]
    siblings = [one for one in known if one.rpartition(".")[0] == parent]
    begun = [one for one in siblings if len(name) > 2 and one.startswith(path)][:1]
    near = begun or _near(path, siblings, cutoff=0.75) or _by_last_part(name) or _near(path, known)
    return _sentence(near)


def suggest_variable(variable: str) -> str:
    """The same for an unknown environment variable."""
    near = _near(variable, (*variables(), CONFIG_VARIABLE), cutoff=0.85)
    rest = variable.removeprefix(PREFIX).lower()
    if not near:
        near = [leaves()[path].variable for path in _by_last_part(rest.rpartition("__")[2])]
    return _sentence(near or _near(variable, (*variables(), CONFIG_VARIABLE)))


def _by_last_part(name: str) -> list[str]:
    """The settings that bear this name in another group."""
    if name in _SYNONYMS:
        return [_SYNONYMS[name]]
    return [path for path in leaves() if path.rpartition(".")[2] == name][:1]


def _near(name: str, known: Iterable[str], cutoff: float = 0.6) -> list[str]:
    return difflib.get_close_matches(name, list(known), n=1, cutoff=cutoff)


def _sentence(near: list[str]) -> str:
    return f"; did you mean {near[0]}?" if near else "; `vastproxy config show` lists them all"
