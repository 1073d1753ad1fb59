"""A few seconds of the chaos: real sshds and engines break under load, and every request ends as it should."""

from pathlib import Path

import pytest

from bench.chaos import Plan, run
from bench.chaos_stage import CAP
from bench.chaos_verdict import as_json


@pytest.mark.timeout(90)
async def test_every_request_of_a_short_chaos_ends_correctly(tmp_path: Path) -> None:
    """An answer is byte for byte its own, or a correct error; nothing is left; whoever was broken serves again."""
    kinds = ("engine killed", "engine answers 503", "sshd sessions killed", "engine truncates")
    plan = Plan(
        seconds=2.0,
        rate=15.0,
        calm_s=2.0,
        kinds=kinds,
        lasts=0.15,
        pause_s=(0.1, 0.4),
        warm_up_s=1.0,
        rest_s=1.0,
        afterwards_s=0.5,
        long_tokens=(20, 40),
    )
    outcome = await run(plan, tmp_path)
    found = as_json(outcome, CAP)
    assert found["faults"] == []
    assert found["verdicts"]["correct"] > 30
    assert outcome.incidents
    assert outcome.spans
