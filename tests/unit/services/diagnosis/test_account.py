"""What vast.ai's answers say about a key, its rights, the credit and the instances."""

import pytest

from tests.helpers.builders import make_instance
from vastproxy.services.diagnosis import account
from vastproxy.services.diagnosis.account import AccountFacts
from vastproxy.services.diagnosis.check import Verdict
from vastproxy.vastai import (
    Instance,
    InstanceList,
    SshKey,
    User,
    VastError,
    VastUnauthorized,
    VastUnavailable,
)

ME = User(id=90210, email="me@example.com", credit=37.42)
WRONG = VastUnauthorized("vast.ai does not accept the key", "auth_error", http_status=401)
NO_RIGHT = VastUnauthorized("may not be used for this", "forbidden", http_status=403)
DOWN = VastUnavailable("vast.ai failed (HTTP 502)", "server_error", http_status=502)


def facts(
    *instances: Instance,
    listed: VastError | None = None,
    user: User | VastError = ME,
    keys: tuple[SshKey, ...] | VastError = (),
) -> AccountFacts:
    return AccountFacts(listed or InstanceList(list(instances)), user, keys)


def test_a_key_that_is_accepted_says_whose_it_is() -> None:
    check = account.key_check(facts())
    assert check.verdict is Verdict.OK
    assert "90210 (me@example.com)" in check.detail


@pytest.mark.parametrize(
    ("error", "exits", "fix"),
    [
        (WRONG, 3, "copy the key again"),
        (VastUnauthorized("expired", "session_expired", http_status=404), 3, "vastai tfa login"),
        (VastUnauthorized("blocked", "edge_blocked", http_status=403), 3, "another network"),
        (DOWN, 1, "console.vast.ai"),
    ],
)
def test_a_key_that_is_refused_exits_with_3_and_vast_ai_that_is_down_with_1(
    error: VastError, exits: int, fix: str
) -> None:
    check = account.key_check(AccountFacts(error, error, error))
    assert (check.verdict, check.exits) == (Verdict.FAIL, exits)
    assert fix in check.fix


def test_a_refused_key_is_told_even_if_one_question_timed_out() -> None:
    assert account.key_check(AccountFacts(DOWN, WRONG, WRONG)).exits == 3


def test_a_key_with_few_rights_is_accepted() -> None:
    assert account.key_check(facts(listed=NO_RIGHT, user=NO_RIGHT, keys=NO_RIGHT)).verdict is Verdict.OK


def test_rights() -> None:
    assert account.rights_check(facts()).verdict is Verdict.OK
    nothing = account.rights_check(facts(listed=NO_RIGHT))
    assert (nothing.verdict, nothing.exits) == (Verdict.FAIL, 3)
    assert "instance_read" in nothing.fix
    blind = account.rights_check(facts(user=NO_RIGHT, keys=NO_RIGHT))
    assert blind.verdict is Verdict.WARN
    assert "user_read" in blind.fix
    assert account.rights_check(facts(user=DOWN)).verdict is Verdict.WARN
    unseen = account.rights_check(facts(listed=DOWN))
    assert (unseen.verdict, unseen.exits) == (Verdict.FAIL, 1), "no instance can be looked at"
    assert "HTTP 502" in unseen.detail


@pytest.mark.parametrize(
    ("credit", "cost", "verdict", "says"),
    [
        (37.42, 0.36, Verdict.OK, "$37.42 left, $0.360 per hour, lasts 4 days"),
        (5.0, 0.36, Verdict.WARN, "lasts 14 h"),
        (0.1, 0.36, Verdict.WARN, "lasts 18 min"),
        (0.0, 0.36, Verdict.FAIL, "$0.00 left"),
        (-3.0, 0.0, Verdict.FAIL, "$-3.00 left"),
        (2.0, 0.0, Verdict.OK, "$2.00 left"),
    ],
)
def test_credit(credit: float, cost: float, verdict: Verdict, says: str) -> None:
    check = account.credit_check(facts(make_instance(dph_total=cost), user=User(id=1, credit=credit)))
    assert check.verdict is verdict
    assert check.detail.endswith(says) or says in check.detail


def test_credit_that_is_not_known_is_no_failure() -> None:
    assert account.credit_check(facts(user=NO_RIGHT)).verdict is Verdict.SKIP
    assert account.credit_check(facts(user=User(id=1))).verdict is Verdict.SKIP


def test_instances() -> None:
    stopped = make_instance(
        id=2, actual_status="exited", intended_status="stopped", cur_state="stopped", next_state="stopped"
    )
    running = make_instance(id=1)
    assert account.instances_check([running, stopped], ()).detail == "1 of 2 running, 1 stopped"
    assert account.instances_check([stopped], ()).verdict is Verdict.WARN
    assert account.instances_check([stopped], (2,)).verdict is Verdict.OK
    assert account.instances_check([], ()).verdict is Verdict.WARN
    strange = account.instances_check([running], (1, 5, 6))
    assert strange.verdict is Verdict.FAIL
    assert "no instance 5, 6" in strange.detail
    assert (account.at_rest(running), account.at_rest(stopped)) == (False, True)


def test_a_key_that_is_not_there_is_a_matter_of_settings() -> None:
    assert account.key_missing("no vast.ai API key").exits == 2
    assert account.key_found("VAST_API_KEY", "https://x").verdict is Verdict.OK
