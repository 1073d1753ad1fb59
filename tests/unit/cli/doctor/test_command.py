"""`vastproxy doctor` where no instance has to be reached: settings, keys, the account."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.vastapi import Fault, VastApi
from tests.unit.cli.conftest import Run
from vastproxy.cli.doctor.command import ask_account, brief
from vastproxy.vastai import VastClient, VastConfig, VastUnavailable


@pytest.fixture
def api() -> Iterator[VastApi]:
    with VastApi() as api:
        yield api


def found(result: Any) -> dict[str, str]:
    assert "Traceback" not in result.output
    document = json.loads(result.stdout)
    assert document["exit_code"] == result.exit_code
    for check in document["checks"]:
        assert bool(check["fix"]) == (check["verdict"] in ("warn", "fail")), check
    return {check["id"]: check["verdict"] for check in document["checks"]}


def doctor(run: Run, api: VastApi, *arguments: str, **environ: str) -> Any:
    quick = {"VASTPROXY_VAST__MIN_INTERVAL_SCALE": "0", "LISTEN_ADDR": "127.0.0.1:1"}
    given = {"VAST_URL": api.url, "VAST_API_KEY": api.account.api_key, **quick, **environ}
    return run("doctor", "--json", *arguments, **given)


def test_nothing_is_set(run: Run) -> None:
    """A newcomer's first try: both keys are missing, and that is said before anything is asked."""
    result = run("doctor", "--json", LISTEN_ADDR="127.0.0.1:1")
    assert result.exit_code == 2
    assert found(result) == {"settings": "ok", "ssh_key": "fail", "api_key": "fail", "proxy": "skip"}


def test_people_read_lines(run: Run) -> None:
    result = run("doctor", LISTEN_ADDR="127.0.0.1:0")
    assert result.exit_code == 2
    lines = result.stdout.splitlines()
    assert lines[0] == "ok    settings        built-in defaults, no file, production"
    assert lines[1].startswith("FAIL  SSH key         no SSH key found")
    assert lines[2].startswith("                      do: `ssh-keygen -t ed25519`")
    assert "skip  proxy           not asked: server.listen has port 0" in result.stdout
    assert lines[-1].startswith("2 failures among 4 checks")


def test_settings_that_cannot_be_read(run: Run, workplace: Path) -> None:
    (workplace / "broken.json").write_text("{")
    result = run("doctor", "--json", "--config", "broken.json")
    assert (result.exit_code, found(result)) == (2, {"settings": "fail"})


def test_a_wrong_key_exits_with_3(run: Run, api: VastApi, ssh_key: Path) -> None:
    result = doctor(run, api, VAST_API_KEY="wrong")
    assert result.exit_code == 3
    checks = found(result)
    assert (checks["ssh_key"], checks["api_key"], checks["key_valid"]) == ("ok", "ok", "fail")
    assert "wrong" not in result.stdout


def test_vast_ai_is_down(run: Run, api: VastApi, ssh_key: Path) -> None:
    api.faults.always(Fault.BAD_GATEWAY_HTML)
    result = doctor(run, api)
    assert (result.exit_code, found(result)["key_valid"]) == (1, "fail")


def test_an_empty_account_and_a_key_that_it_does_not_know(run: Run, api: VastApi, ssh_key: Path) -> None:
    result = doctor(run, api)
    checks = found(result)
    assert result.exit_code == 1
    assert (checks["ssh_key_registered"], checks["instances"], checks["credit"]) == ("fail", "warn", "ok")
    public = ssh_key.with_suffix(".pub")
    assert not public.exists()
    assert "ssh-keygen -y -f ~/.ssh/id_ed25519" in result.stdout


def test_an_instance_of_another_account(run: Run, api: VastApi, ssh_key: Path) -> None:
    result = doctor(run, api, "48009999")
    assert found(result)["instances"] == "fail"
    assert "no instance 48009999 on this account" in result.stdout


def test_without_an_ssh_key_the_states_are_told_all_the_same(run: Run, api: VastApi) -> None:
    api.account.add(id=7)
    checks = found(doctor(run, api))
    assert (checks["ssh_key"], checks["state"]) == ("fail", "ok")
    assert "direct_path" not in checks


def test_a_known_hosts_file_that_is_not_there(run: Run, api: VastApi, ssh_key: Path) -> None:
    api.account.add(id=7)
    strict = {"VASTPROXY_TUNNELS__HOST_KEYS": "strict", "VASTPROXY_TUNNELS__KNOWN_HOSTS": "/nowhere/x"}
    result = doctor(run, api, **strict)
    assert (result.exit_code, found(result)["host_keys"]) == (2, "fail")


def test_a_stopped_instance_is_looked_at_by_name_alone(run: Run, api: VastApi, ssh_key: Path) -> None:
    api.account.add(
        id=7, actual_status="exited", intended_status="stopped", cur_state="stopped", next_state="stopped"
    )
    assert "state" not in found(doctor(run, api))
    assert found(doctor(run, api, "7"))["state"] == "warn"


async def test_silence_of_vast_ai_is_bounded() -> None:
    async with VastApi() as api:
        api.faults.always(Fault.HANG)
        config = VastConfig(api.account.api_key, url=api.url, min_interval_scale=0)
        with VastClient(brief(config)) as client:
            facts = await ask_account(client, limit_s=0.2)
            assert [type(error) for error in facts.errors] == [VastUnavailable] * 3
        api.faults.clear()
