"""`vastproxy ssh`: a session in an instance, by OpenSSH's client, with the host key that vastproxy has pinned."""

import asyncio
import os
import shlex
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path as FilePath
from typing import Annotated

import typer

from vastproxy.cli.logs import set_up_logging
from vastproxy.cli.options import ConfigFile, InstanceId
from vastproxy.cli.progress import waiting
from vastproxy.errors import VastproxyError
from vastproxy.services.errors import TunnelError
from vastproxy.services.ownfile import read_own
from vastproxy.services.ownfile import replace as replace_file
from vastproxy.services.tunnels.addresses import target_of
from vastproxy.services.tunnels.base import Path, SshAddress, TunnelEngine, TunnelTarget
from vastproxy.services.tunnels.factory import make_engine
from vastproxy.services.tunnels.hostcheck import HostKeyRefused, PinnedHostKeys
from vastproxy.services.tunnels.hostkeys import HostKeyPins, pins_path
from vastproxy.services.tunnels.keys import DEFAULT_CANDIDATES
from vastproxy.services.tunnels.keyscan import presented_key
from vastproxy.services.tunnels.openssh import (
    alias,
    command_line,
    host_key_options,
    key_options,
    known_hosts_text,
)
from vastproxy.services.tunnels.passphrase import terminal_prompt
from vastproxy.services.tunnels.pinfile import read_book
from vastproxy.services.tunnels.pins import PinBook, UnreadablePins
from vastproxy.settings import Loaded, SettingsError, load
from vastproxy.settings.logs import LoggingSettings
from vastproxy.settings.model import TunnelSettings
from vastproxy.settings.paths import expand_home, home
from vastproxy.vastai import Instance, VastConfig, VastNotFound, get_client

KNOWN_HOSTS = "known_hosts"

#: Makes the engine that pins a host key at first sight.
MakeEngine = Callable[[], TunnelEngine]


class NotReachable(VastproxyError):
    """No address of the instance lets us in, or it has none."""


def ssh(
    instance_id: InstanceId,
    command: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[-- COMMAND...]", help="What to run there; without it a shell.", show_default=False
        ),
    ] = None,
    path: Annotated[
        Path | None, typer.Option("--path", help="Only this way. Default: direct, then the relay.")
    ] = None,
    show: Annotated[
        bool, typer.Option("--print", help="Print the command of the OpenSSH client instead of running it.")
    ] = False,
    config: ConfigFile = None,
) -> None:
    """Open a shell in an instance, or run a command there, with OpenSSH's own client.

    vast.ai is asked for the address; the direct one is taken if it answers, else the relay. Only the pinned host key is
    accepted; one that was never seen is pinned first, as `serve` does. The exit code is that of ssh.

    Examples:

      vastproxy ssh 48001001

      vastproxy ssh 48001001 -- nvidia-smi -L

      vastproxy ssh 48001001 --print
    """
    program = shutil.which("ssh")
    if program is None:
        raise SettingsError(
            "OpenSSH's client (ssh) is not installed; on Debian: apt-get install openssh-client"
        )
    loaded = load(config_path=config)
    with waiting("asking vast.ai for the address"):
        instance = find(loaded, instance_id)
    with set_up_logging(LoggingSettings(level="error")):
        line = asyncio.run(prepare(loaded, instance, command=command or (), path=path, program=program))
    if show:
        typer.echo(shlex.join(line))
    else:
        os.execv(program, line)


def find(loaded: Loaded, instance_id: int) -> Instance:
    """The instance as the account's list has it: what is shown of a single one may lack its ports."""
    with get_client(VastConfig.from_settings(loaded.settings.vast, loaded.environ)) as client:
        listed = client.list_instances()
    for one in listed:
        if one.id == instance_id:
            return one
    raise VastNotFound(
        f"there is no instance {instance_id} on this account; `vastproxy instances --all` lists them",
        "no_such_instance",
    )


async def prepare(
    loaded: Loaded,
    instance: Instance,
    *,
    command: Sequence[str],
    path: Path | None = None,
    program: str = "ssh",
    user: str = "root",
    engine: MakeEngine | None = None,
) -> list[str]:
    """The command line for the address that answers, with its host key on file. Raises NotReachable, SettingsError."""
    settings, environ = loaded.settings.tunnels, loaded.environ
    target = target_of(instance)
    addresses = tuple(one for one in target.addresses if path in (None, one.path))
    if not addresses:
        way = "" if path is None else f" on the {path} path"
        raise NotReachable(f"instance {instance.id} has no SSH address{way}; it is {instance.phase}")
    keys = key_options(
        key_files(settings, environ), agent=settings.agent, agent_socket=_agent_socket(environ)
    )
    if settings.host_keys == "strict" and settings.known_hosts is not None:
        address = await first_that_answers(instance.id, addresses)
        options = host_key_options(expand_home(settings.known_hosts, environ).absolute(), name=None)
    else:
        file = _pins(settings, environ)
        make = engine or (lambda: make_engine(settings, environ=environ, prompt=terminal_prompt()))
        address = await pinned_way(target, addresses, file, make)
        known_hosts = write_known_hosts(file.with_name(KNOWN_HOSTS), await asyncio.to_thread(_book, file))
        options = host_key_options(known_hosts, name=alias(target.identity, address.path))
    return command_line(address, options=[*options, *keys], command=command, user=user, program=program)


async def pinned_way(
    target: TunnelTarget, addresses: Sequence[SshAddress], file: FilePath, make: MakeEngine
) -> SshAddress:
    """The first address that answers and shows the key that is pinned, after a login that pins it where none is.

    Raises HostKeyRefused for a changed key, which `vastproxy trust` then knows of.
    """
    rules, failures = PinnedHostKeys(HostKeyPins(file)), []
    for address in addresses:
        check = await rules.begin(target, address)
        try:
            if not check.kinds:
                await _log_in(make(), target, address)
            elif not check.accepts(await presented_key(address, kinds=check.kinds)):
                raise await check.refusal() or NotReachable(f"{address} shows another host key")
            return address
        except HostKeyRefused:
            raise
        except TunnelError as error:
            failures.append(str(error))
    raise _unreachable(target.instance_id, failures)


async def _log_in(engine: TunnelEngine, target: TunnelTarget, address: SshAddress) -> None:
    """Log in once, so that the host key is pinned."""
    try:
        await (await engine.connect(target, address)).close()
    finally:
        await engine.close()


async def first_that_answers(instance_id: int, addresses: Sequence[SshAddress]) -> SshAddress:
    """The first address at which an sshd answers. Raises NotReachable."""
    failures = []
    for address in addresses:
        try:
            await presented_key(address)
            return address
        except TunnelError as error:
            failures.append(str(error))
    raise _unreachable(instance_id, failures)


def key_files(settings: TunnelSettings, environ: Mapping[str, str]) -> list[FilePath]:
    """The key files that ssh is to offer: the one that is named, or the default ones that are there."""
    if settings.key_path is not None:
        return [expand_home(settings.key_path, environ).absolute()]
    base = home(environ)
    if base is None or settings.agent == "on":
        return []
    return [file for name in DEFAULT_CANDIDATES if (file := base / ".ssh" / name).is_file()]


def write_known_hosts(file: FilePath, book: PinBook) -> FilePath:
    """The pinned keys as a known_hosts file beside the pins; written only if it says something else."""
    content = known_hosts_text(book).encode()
    try:
        if read_own(file, max_bytes=len(content)) != content:
            replace_file(file, content)
    except OSError:
        try:
            replace_file(file, content)
        except OSError as error:
            raise SettingsError(
                f"{file} cannot be written ({error.strerror or error}); set tunnels.state_dir"
            ) from None
    return file.absolute()


def _book(file: FilePath) -> PinBook:
    try:
        return read_book(file)
    except OSError as error:
        raise SettingsError(f"{file} cannot be used: {error.strerror or error}") from None
    except UnreadablePins as error:
        raise SettingsError(f"{file} does not hold pinned host keys ({error}); move it away") from None


def _pins(settings: TunnelSettings, environ: Mapping[str, str]) -> FilePath:
    file = pins_path(settings, environ)
    if file is None:
        raise SettingsError("there is no home directory to keep host keys in; set tunnels.state_dir")
    return file


def _agent_socket(environ: Mapping[str, str]) -> FilePath | None:
    return FilePath(text) if (text := environ.get("SSH_AUTH_SOCK", "")) else None


def _unreachable(instance_id: int, failures: Sequence[str]) -> NotReachable:
    told = "; ".join(dict.fromkeys(failures))
    return NotReachable(f"{told}; `vastproxy doctor {instance_id}` looks closer")
