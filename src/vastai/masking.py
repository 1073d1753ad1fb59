"""Hiding what may be secret before an instance is shown. Pure."""

import re
from collections.abc import Mapping, Sequence

MASK = "***"
#: Variables that are worth seeing and hold no secret. All others are hidden: any name may hold a token.
_SHOWN = frozenset(
    {
        "MODEL_NAME",
        "SGLANG_MODEL",
        "VLLM_MODEL",
        "LLAMA_MODEL",
        "OLLAMA_MODEL",
        "OLLAMA_HOST",
        "PORTAL_CONFIG",
    }
)
_SECRET_WORD = re.compile(r"key|token|secret|passw|auth|credential", re.I)
_SECRET_VALUE = re.compile(r"\b(?:hf_|sk-|gh[pousr]_|nvapi-|AKIA)[A-Za-z0-9]|://[^/\s@]+@")
_SECRET_OPTION = re.compile(r"-{1,2}[A-Za-z][A-Za-z-]*")


def masked_env(env: Mapping[str, str | None]) -> dict[str, str | None]:
    """The variables with every value hidden, except of the few that name models, hosts and ports."""
    return {
        name: value if value is None or (name in _SHOWN and not _SECRET_VALUE.search(value)) else MASK
        for name, value in env.items()
    }


def masked_args(args: Sequence[str]) -> tuple[str, ...]:
    """Arguments with those hidden that look like secrets, or follow an option that sounds like one."""
    shown: list[str] = []
    hide_next = False
    for arg in args:
        is_option = _SECRET_OPTION.fullmatch(arg) is not None
        sounds_secret = _SECRET_WORD.search(arg) is not None or _SECRET_VALUE.search(arg) is not None
        hide = (hide_next and not is_option) or (sounds_secret and not is_option)
        shown.append(MASK if hide else arg)
        hide_next = is_option and sounds_secret
    return tuple(shown)
