"""What the shell completes where an instance's id is typed: the ids of the account, kept for a moment.

A shell waits for this at each press of Tab, so vast.ai is asked at most once a minute, briefly, also while it does
not answer. Whatever goes wrong is silence: what is typed there can be typed without help.
"""

import hashlib
import json
import os
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from vastproxy.cli.render import clean
from vastproxy.errors import VastproxyError
from vastproxy.services.ownfile import read_own
from vastproxy.services.ownfile import replace as replace_file
from vastproxy.settings import load
from vastproxy.settings.model import RetrySettings
from vastproxy.settings.paths import xdg_directory
from vastproxy.vastai import Instance, VastClient, VastConfig

FILE_NAME = "completion.json"
#: How long what vast.ai said is offered without asking again, and how long where it does not answer.
FRESH_S = 60.0
STALE_S = 86_400.0
#: How long a shell may wait.
CONNECT_TIMEOUT_S, READ_TIMEOUT_S = 1.0, 2.0
_MAX_BYTES = 1 << 20

#: What is offered: an id, and what a shell that can shows beside it.
Choice = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Kept:
    """The choices as they were at a time, and when vast.ai was asked last, perhaps in vain; in Unix seconds."""

    at: float
    choices: tuple[Choice, ...]
    asked_at: float


def instance_ids(incomplete: str) -> list[Choice]:
    """The ids of the account's instances that begin so. Raises and prints nothing."""
    try:
        choices = known(os.environ)
    except (VastproxyError, OSError, ValueError):
        return []
    return [choice for choice in choices if choice[0].startswith(incomplete)]


def known(
    environ: Mapping[str, str],
    *,
    ask: Callable[[VastConfig], Iterable[Instance]] | None = None,
    clock: Callable[[], float] = time.time,
) -> tuple[Choice, ...]:
    """The account's instances: as kept, or as vast.ai says. Raises VastproxyError and OSError."""
    loaded = load(environ=environ)
    config = VastConfig.from_settings(loaded.settings.vast, loaded.environ)
    directory = xdg_directory("XDG_CACHE_HOME", ".cache", loaded.environ)
    file = None if directory is None else directory / "vastproxy" / FILE_NAME
    account = _account(config)
    kept, now = _read(file, account), clock()
    if kept is not None and 0 <= now - kept.asked_at < FRESH_S:
        return kept.choices
    try:
        found = tuple(map(choice_of, (ask or _listed)(config)))
    except VastproxyError:
        # Remembered as well: the shell would wait for it again at the next press of Tab.
        if kept is not None and 0 <= now - kept.at < STALE_S:
            _write(file, account, replace(kept, asked_at=now))
            return kept.choices
        _write(file, account, Kept(now, (), now))
        raise
    _write(file, account, Kept(now, found, now))
    return found


def choice_of(instance: Instance) -> Choice:
    """An instance as it is offered: its id, and what tells it from the others."""
    gpus = f"{instance.num_gpus or '?'}x {instance.gpu_name}" if instance.gpu_name else ""
    words = (str(instance.phase), gpus, instance.label or instance.template_name or instance.image)
    return str(instance.id), clean(", ".join(filter(None, words)))


def _listed(config: VastConfig) -> Iterable[Instance]:
    brief = replace(
        config,
        connect_timeout_s=CONNECT_TIMEOUT_S,
        read_timeout_s=READ_TIMEOUT_S,
        retries=RetrySettings(attempts=1),
    )
    with VastClient(brief) as client:
        return client.list_instances()


def _account(config: VastConfig) -> str:
    """Tells one account from another without telling the key, which is random and long."""
    return hashlib.sha256(f"{config.url}\n{config.api_key}".encode()).hexdigest()[:16]


def _read(file: Path | None, account: str) -> Kept | None:
    """What is kept for this account; None where nothing is, or what is there is something else."""
    try:
        content = None if file is None else read_own(file, max_bytes=_MAX_BYTES)
        document = json.loads(content) if content else {}
        if document["account"] != account:
            return None
        choices = tuple((str(id), clean(str(text))) for id, text in document["choices"])
        return Kept(float(document["at"]), choices, float(document.get("asked_at", document["at"])))
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


def _write(file: Path | None, account: str, kept: Kept) -> None:
    """Keep them, where that can be done."""
    if file is None:
        return
    document = {"account": account, "at": kept.at, "choices": kept.choices, "asked_at": kept.asked_at}
    try:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        replace_file(file, json.dumps(document).encode())
    except OSError:
        return
