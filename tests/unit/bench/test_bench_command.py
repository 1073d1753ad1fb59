"""The command line says what is wrong and what there is."""

from pathlib import Path

import pytest

from bench.__main__ import main
from bench.contenders.base import CLIENT_KEY
from bench.contenders.nginx import proxy_config
from bench.http_load import script


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["run", "--only", "json-9"], "there is no work 'json-9'; there are json-1, json-32"),
        (["run", "--contender", "apache"], "there is no contender 'apache'; there are direct, vastproxy"),
        (["report", "/nonexistent/results.json"], "cannot read /nonexistent/results.json"),
    ],
)
def test_what_does_not_exist_is_refused_in_one_line(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 1
    errors = capsys.readouterr().err.splitlines()
    assert len(errors) == 1
    assert said in errors[0]


def test_help_lists_works_and_contenders(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["run", "--help"])
    assert ended.value.code == 0
    text = capsys.readouterr().out
    assert "sse-4000" in text
    assert "vllm-router" in text


def test_braces_of_lua_survive_the_template() -> None:
    text = script(Path("/tmp/body"), CLIENT_KEY)
    assert 'wrk.headers["authorization"] = "Bearer sk-bench' in text
    assert """'RESULT {"requests": %d,""" in text


def test_nginx_checks_the_key_and_knows_both_backends() -> None:
    text = proxy_config(8080, [1001, 1002], Path("/tmp/x"), Path("/tmp/x/access.log"))
    assert f'"Bearer {CLIENT_KEY}" 1;' in text
    assert "server 127.0.0.1:1001;" in text
    assert "server 127.0.0.1:1002;" in text
