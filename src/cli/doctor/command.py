"""The command, and the order in which things are looked at: first what everything else rests on."""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, TypeVar

import typer

from vastproxy.cli import render
from vastproxy.cli.asking import inbound_key, proxy_url
from vastproxy.cli.doctor import proxy
from vastproxy.cli.doctor.view import View, conclude
from vastproxy.cli.logs import set_up_logging
from vastproxy.cli.options import AsJson, ConfigFile, InstanceIds
from vastproxy.cli.remembered import remembered
from vastproxy.services.diagnosis import account, sshkeys
from vastproxy.services.diagnosis.account import AccountFacts
from vastproxy.services.diagnosis.check import Check, Verdict, exit_code
from vastproxy.services.diagnosis.examination import Tools, examine_all
from vastproxy.services.diagnosis.hostkeys import SeenHostKeys
from vastproxy.services.diagnosis.machine import machine_checks, state_check
from vastproxy.services.threads import in_thread
from vastproxy.services.tunnels.asyncssh_engine import AsyncsshEngine
from vastproxy.services.tunnels.factory import host_key_rules, key_access
from vastproxy.services.tunnels.hostcheck import HostKeyRules
from vastproxy.services.tunnels.hostkeys import pins_path
from vastproxy.services.tunnels.keys import ClientKeys, load_client_keys
from vastproxy.services.tunnels.passphrase import Prompt, terminal_prompt
from vastproxy.settings import Loaded, SettingsError, load, resolve_secret
from vastproxy.settings.logs import LoggingSettings
from vastproxy.settings.model import RetrySettings
from vastproxy.settings.paths import home
from vastproxy.vastai import Instance, VastClient, VastConfig, VastError, VastUnavailable

#: One question to vast.ai, the second try included.
API_LIMIT_S = 45.0
API_READ_TIMEOUT_S = 15.0

AnswerT = TypeVar("AnswerT")


def doctor(
    instances: InstanceIds = None,
    deep: Annotated[
        bool,
        typer.Option("--deep", help="Also ask each engine for one token, which costs what a token costs."),
    ] = False,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Look at everything between your account and the first token, and say what to do about what is wrong.

    Settings, API key, rights, credit, SSH key, then each running instance: its state, both SSH paths, host key, engine,
    models, token and GPUs; and the proxy, if one runs. Nothing is changed by it. Exits with 0 if nothing failed, 1 if
    something did, 2 if settings or keys cannot be used, 3 if vast.ai refuses the key.

    Examples:

      vastproxy doctor

      vastproxy doctor 48001001 --deep

      vastproxy doctor --json | jq '.checks[] | select(.verdict == "fail")'
    """
    begun = time.monotonic()
    console = None if as_json else render.stdout()
    with set_up_logging(LoggingSettings(level="error")), View(console) as view:
        run(view, instances or (), deep=deep, config=config, prompt=None if as_json else terminal_prompt())
    conclude(view, console, time.monotonic() - begun)
    raise typer.Exit(exit_code(view.checks))


def run(view: View, wanted: Sequence[int], *, deep: bool, config: Path | None, prompt: Prompt | None) -> None:
    """Look at everything and tell the view."""
    try:
        loaded = load(config_path=config)
    except SettingsError as error:
        fix = "correct it there; docs/CONFIGURATION.md has every setting"
        view.tell(Check("settings", "settings", Verdict.FAIL, str(error), fix, exits=2))
        return
    file = loaded.config_path or "built-in defaults, no file"
    view.tell(Check("settings", "settings", Verdict.OK, f"{file}, {loaded.settings.environment}"))
    keys = client_keys(loaded, prompt)
    view.tell(sshkeys.key_check(keys))
    asyncio.run(_Visit(view, loaded, keys, tuple(wanted), deep).run())


def client_keys(loaded: Loaded, prompt: Prompt | None) -> ClientKeys | SettingsError:
    """The keys that `serve` would log in with, or why there is none."""
    tunnels = loaded.settings.tunnels
    try:
        access = key_access(tunnels, loaded.environ, prompt=prompt)
        return load_client_keys(tunnels, home=home(loaded.environ), access=access)
    except SettingsError as error:
        return error


def host_rules(loaded: Loaded) -> HostKeyRules | SettingsError:
    """The rules of `serve`, but without keeping what is seen."""
    tunnels = loaded.settings.tunnels
    if tunnels.host_keys == "pin":
        return SeenHostKeys(pins_path(tunnels, loaded.environ))
    try:
        return host_key_rules(tunnels, loaded.environ)
    except SettingsError as error:
        return error


@dataclass
class _Visit:
    """One visit: what takes a network."""

    view: View
    loaded: Loaded
    keys: ClientKeys | SettingsError
    wanted: tuple[int, ...]
    deep: bool

    async def run(self) -> None:
        instances = await self._account()
        if instances is not None:
            await self._instances(instances)
        await self._proxy()

    async def _account(self) -> Sequence[Instance] | None:
        """The account's instances, None where they could not be read."""
        view = self.view
        try:
            config = VastConfig.from_settings(self.loaded.settings.vast, self.loaded.environ)
        except SettingsError as error:
            view.tell(account.key_missing(str(error)))
            return None
        view.tell(account.key_found(config.key_source, config.url))
        view.progress("asking vast.ai")
        with VastClient(brief(config)) as client:
            facts = await ask_account(client)
        view.progress(None)
        view.tell(key := account.key_check(facts))
        if key.verdict is Verdict.FAIL:
            return None
        listed = None if isinstance(facts.instances, VastError) else facts.instances
        running = sum(one.is_running for one in listed or ())
        view.tell(
            account.rights_check(facts),
            account.credit_check(facts),
            sshkeys.registered_check(self.keys, facts.ssh_keys, facts.user, running=running),
        )
        if listed is not None:
            view.tell(account.instances_check(listed, self.wanted))
        return listed

    async def _instances(self, listed: Sequence[Instance]) -> None:
        chosen = [
            one for one in listed if (one.id in self.wanted if self.wanted else not account.at_rest(one))
        ]
        rules = host_rules(self.loaded)
        if isinstance(rules, SettingsError):
            fix = "list the instances' host keys there, or set tunnels.host_keys to pin"
            self.view.tell(Check("host_keys", "host keys", Verdict.FAIL, str(rules), fix, exits=2))
        if isinstance(rules, SettingsError) or isinstance(self.keys, SettingsError):
            for one in chosen:
                self.view.tell(state_check(one, now=time.time()))
            return
        engine = AsyncsshEngine(self.loaded.settings.tunnels, keys=self.keys, host_keys=rules)
        try:
            tools = Tools(self.loaded.settings, self.keys, engine, rules, self._engine_token(), self.deep)
            await self._side_by_side(chosen, tools)
        finally:
            await engine.close()

    def _engine_token(self) -> str | None:
        """The key for engines that is set; without it, and where it cannot be had, each instance's own is used."""
        setting = self.loaded.settings.engines.api_key
        try:
            token = resolve_secret(setting, environ=self.loaded.environ, name="engines.api_key")
        except SettingsError as error:
            fix = "make that file or variable readable, or remove engines.api_key"
            self.view.tell(Check("engines_key", "engines' key", Verdict.FAIL, str(error), fix, exits=2))
            return None
        return None if token is None else token.get_secret_value()

    async def _side_by_side(self, chosen: Sequence[Instance], tools: Tools) -> None:
        view, left = self.view, len(chosen)
        if not chosen:
            return

        known = remembered(self.loaded)
        of_machine = {
            one.id: machine_checks(one, known.get(one.machine_id)) if one.machine_id is not None else ()
            for one in chosen
        }

        def done(checks: tuple[Check, ...]) -> None:
            nonlocal left
            left -= 1
            view.tell(*checks, *of_machine.get(checks[0].instance or 0, ()))
            view.progress(_looking(left))

        view.progress(_looking(left))
        await examine_all(chosen, tools, named=self.wanted, done=done)
        view.progress(None)

    async def _proxy(self) -> None:
        try:
            base, key = proxy_url(None, self.loaded), inbound_key(self.loaded)
        except SettingsError as error:
            self.view.tell(Check("proxy", "proxy", Verdict.SKIP, f"not asked: {error}"))
            return
        self.view.progress(f"asking {base}")
        answered = await in_thread(lambda: proxy.ask(base, key), name="doctor-proxy")
        self.view.progress(None)
        self.view.tell(*proxy.checks(base, answered))


def brief(config: VastConfig) -> VastConfig:
    """The same with a person's patience."""
    return replace(
        config,
        read_timeout_s=min(config.read_timeout_s, API_READ_TIMEOUT_S),
        retries=RetrySettings(attempts=2, base_s=1.0, max_s=5.0),
    )


async def ask_account(client: VastClient, *, limit_s: float = API_LIMIT_S) -> AccountFacts:
    """Three questions at the same time, each bounded."""
    instances, user, keys = await asyncio.gather(
        _asked(lambda: client.list_instances(fresh=True), "listing instances", limit_s),
        _asked(lambda: client.current_user(fresh=True), "asking for the account", limit_s),
        _asked(lambda: client.ssh_keys(fresh=True), "listing SSH keys", limit_s),
    )
    return AccountFacts(instances, user, keys)


async def _asked(question: Callable[[], AnswerT], doing: str, limit_s: float) -> AnswerT | VastError:
    try:
        async with asyncio.timeout(limit_s):
            return await in_thread(question, name="doctor")
    except VastError as error:
        return error
    except TimeoutError:
        return VastUnavailable(f"vast.ai did not answer within {limit_s:g} s while {doing}", "timeout")


def _looking(left: int) -> str:
    return f"looking at {left} instance{'s' * (left != 1)}"
