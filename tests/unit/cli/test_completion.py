"""Ids that a shell completes: few questions, no noise."""

import json
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from tests.helpers.builders import make_instance
from tests.unit.cli.conftest import Answers, Peer, Run
from tests.unit.cli.test_instances import RELAYED, RUNNING, account, environ
from vastproxy.cli.completion import STALE_S, choice_of, instance_ids, known
from vastproxy.errors import VastproxyError
from vastproxy.vastai import Instance, VastConfig, VastUnavailable

StartPeer = Callable[[Answers], Peer]


class Asked:
    """Stands for vast.ai, and counts."""

    def __init__(self, *answers: list[Instance] | VastproxyError) -> None:
        self.answers = list(answers)
        self.times = 0

    def __call__(self, config: VastConfig) -> Iterable[Instance]:
        self.times += 1
        answer = self.answers.pop(0)
        if isinstance(answer, VastproxyError):
            raise answer
        return answer


@pytest.fixture
def env(workplace: Path) -> dict[str, str]:
    return {"HOME": str(workplace), "VAST_API_KEY": "k" * 64}


ONE, TWO = make_instance(id=48001001), make_instance(id=48001002, label="mine\x1b[31m")


def test_an_instance_is_offered_with_what_tells_it_from_others() -> None:
    assert choice_of(ONE) == ("48001001", "running, 1x RTX 4090, SGLang")
    assert choice_of(TWO)[1] == "running, 1x RTX 4090, mine\N{REPLACEMENT CHARACTER}[31m"


def test_vast_ai_is_asked_once_a_minute(env: dict[str, str]) -> None:
    asked = Asked([ONE, TWO], [ONE])
    for now, count, times in ((0, 2, 1), (59, 2, 1), (61, 1, 2)):
        choices = known(env, ask=asked, clock=lambda now=now: now)  # type: ignore[misc]
        assert (len(choices), asked.times) == (count, times)


def test_what_was_known_is_offered_while_vast_ai_does_not_answer(env: dict[str, str]) -> None:
    down = VastUnavailable("down")
    known(env, ask=Asked([ONE]), clock=lambda: 0)
    assert len(known(env, ask=Asked(down), clock=lambda: 1000)) == 1
    with pytest.raises(VastUnavailable):
        known(env, ask=Asked(down), clock=lambda: STALE_S + 1)


def test_vast_ai_is_asked_once_a_minute_also_while_it_does_not_answer(env: dict[str, str]) -> None:
    """A shell waits for each answer, and for none the longest."""
    down = VastUnavailable("down")
    asked = Asked(down, [ONE], down, down, [TWO])
    with pytest.raises(VastUnavailable):
        known(env, ask=asked, clock=lambda: 0)
    for now, offered, times in (
        (59, None, 1),
        (61, ONE, 2),
        (200, ONE, 3),
        (259, ONE, 3),
        (261, ONE, 4),
        (322, TWO, 5),
    ):
        choices = known(env, ask=asked, clock=lambda now=now: now)  # type: ignore[misc]
        assert choices == (() if offered is None else (choice_of(offered),))
        assert asked.times == times


def test_a_file_that_does_not_say_when_it_was_asked_last(env: dict[str, str], workplace: Path) -> None:
    known(env, ask=Asked([ONE]), clock=lambda: 0)
    (file,) = workplace.rglob("completion.json")
    document = json.loads(file.read_text())
    del document["asked_at"]
    file.write_text(json.dumps(document))
    assert len(known(env, ask=Asked(), clock=lambda: 59)) == 1


def test_another_account_has_other_instances(env: dict[str, str]) -> None:
    known(env, ask=Asked([ONE]), clock=lambda: 0)
    assert known({**env, "VAST_API_KEY": "other"}, ask=Asked([TWO]), clock=lambda: 1)[0][0] == "48001002"


def test_the_key_is_not_in_the_file(env: dict[str, str], workplace: Path) -> None:
    known(env, ask=Asked([ONE]), clock=lambda: 0)
    (file,) = workplace.rglob("completion.json")
    assert env["VAST_API_KEY"] not in file.read_text()
    assert file.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("content", ["", "[]", '{"account": 1}', "\xff", '{"choices": [[1]]}', "[" * 5000])
def test_a_file_that_holds_something_else_is_nothing(
    env: dict[str, str], workplace: Path, content: str
) -> None:
    known(env, ask=Asked([ONE]), clock=lambda: 0)
    (file,) = workplace.rglob("completion.json")
    file.write_text(content)
    assert len(known(env, ask=Asked([ONE]), clock=lambda: 1)) == 1
    assert json.loads(file.read_text())["at"] == 1


def test_without_a_home_it_is_asked_each_time() -> None:
    asked = Asked([ONE], [ONE])
    for _ in range(2):
        assert len(known({"VAST_API_KEY": "k"}, ask=asked, clock=lambda: 0)) == 1
    assert asked.times == 2


def test_whatever_is_wrong_nothing_is_said(workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert instance_ids("4") == []
    assert capsys.readouterr() == ("", "")


def test_a_shell_completes_the_id(run: Run, peer: StartPeer, workplace: Path) -> None:
    """Through the program itself, as bash calls it."""
    vast = peer(account(RUNNING, RELAYED))
    bash = {"_VASTPROXY_COMPLETE": "complete_bash", "COMP_WORDS": "vastproxy drain 10", "COMP_CWORD": "2"}
    result = run(**environ(vast), **bash)
    assert result.output.split() == ["101", "102"]
    vast.answers.clear()
    again = run(**environ(vast), **{**bash, "COMP_WORDS": "vastproxy ssh 101", "COMP_CWORD": "2"})
    assert again.output.split() == ["101"]
    assert len(vast.seen) == 1
