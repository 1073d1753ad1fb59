"""What many findings come to."""

import pytest

from vastproxy.services.diagnosis.check import Check, Verdict, exit_code, summary


def check(verdict: Verdict, *, exits: int = 1) -> Check:
    return Check("x", "x", verdict, "found", "do it", exits=exits)


OK, WARN, SKIP = check(Verdict.OK), check(Verdict.WARN), check(Verdict.SKIP)
FAIL, UNSET, REFUSED = (check(Verdict.FAIL, exits=code) for code in (1, 2, 3))


@pytest.mark.parametrize(
    ("checks", "code", "word"),
    [
        ([], 0, Verdict.OK),
        ([OK, SKIP], 0, Verdict.OK),
        ([OK, WARN], 0, Verdict.WARN),
        ([WARN, FAIL], 1, Verdict.FAIL),
        ([FAIL, UNSET, OK], 2, Verdict.FAIL),
        ([UNSET, REFUSED, FAIL], 3, Verdict.FAIL),
        ([check(Verdict.WARN, exits=3)], 0, Verdict.WARN),
    ],
)
def test_the_exit_code_is_that_of_the_most_telling_failure(
    checks: list[Check], code: int, word: Verdict
) -> None:
    assert (exit_code(checks), summary(checks)) == (code, word)


def test_programs_get_every_field_and_null_for_no_fix() -> None:
    assert Check("engine", "engine", Verdict.OK, "vllm", instance=7).to_json() == {
        "id": "engine",
        "instance": 7,
        "title": "engine",
        "verdict": "ok",
        "detail": "vllm",
        "fix": None,
    }
