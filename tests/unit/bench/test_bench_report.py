"""Results become pages: tables with nothing made up, markers that are found once, and doubts that are told."""

import json
from pathlib import Path
from typing import Any

import pytest

from bench import tables
from bench.figures import Results, spread
from bench.plots import limit
from bench.processes import BenchError
from bench.report import put_between, read_results, sections, summarise
from bench.works import WORKS

ROOT = Path(__file__).resolve().parents[3]


def sample(work: str, contender: str, round_number: int = 1, **figures: float) -> dict[str, Any]:
    return {"work": work, "contender": contender, "round": round_number, "figures": figures}


def document(*samples: dict[str, Any]) -> dict[str, Any]:
    return {
        "format": 1,
        "taken": "2026-01-31T12:00:00+00:00",
        "machine": {"cpu": "Some CPU", "mhz": "2600", "cores": 2, "memory_gib": 8.0, "is_virtual": True},
        "versions": {"nginx": "1.22.1"},
        "options": {"rounds": 2, "measure_s": 8.0, "warm_up_s": 2.0},
        "samples": list(samples),
    }


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "–"),
        (0.0, "0"),
        (0.0123, "0.012"),
        (0.5, "0.50"),
        (9.876, "9.88"),
        (12.34, "12.3"),
        (12345.6, "12,346"),
    ],
)
def test_numbers_have_three_digits(value: float | None, text: str) -> None:
    assert tables.number(value) == text


def test_several_rounds_show_their_range() -> None:
    assert tables.with_range(spread([1.0, 2.0, 3.0])) == "2.00 (1.00–3.00)"
    assert tables.with_range(spread([2.0])) == "2.00"
    assert tables.with_range(None) == "–"


def test_added_latency_is_the_rest_after_the_engines_own() -> None:
    direct = sample("json-32", "direct", rps=1000, p50_ms=0.5)
    ours = sample("json-32", "vastproxy", rps=100, p50_ms=1.75, cpu_us_per_request=50.0)
    section = tables.work_section(Results(document(direct, ours)), "json-32")
    rows = {
        line.split("|")[1].strip(): [c.strip() for c in line.split("|")[2:-1]]
        for line in section.splitlines()
        if "|" in line
    }
    assert rows["the engine itself"][:3] == ["1,000", "–", "(0.50)"]
    assert rows["vastproxy over SSH"][:3] == ["100", "50.0", "1.25"]


def test_who_could_not_take_part_is_named_with_the_reason() -> None:
    failed = {
        "work": "json-32",
        "contender": "litellm",
        "round": 1,
        "error": "litellm ended with status 1: no key",
    }
    section = tables.work_section(Results(document(sample("json-32", "nginx", rps=1.0), failed)), "json-32")
    assert "- LiteLLM proxy: litellm ended with status 1: no key" in section
    assert "| LiteLLM" not in section


def test_the_room_of_the_generator_is_told_against_the_fastest() -> None:
    samples = [
        sample("json-32", name, rps=rate, core0_share=0.5)
        for name, rate in (("direct", 900), ("nginx", 300), ("litellm", 1))
    ]
    text = tables.generator_table(Results(document(*samples)))
    assert "| json-32 | 900 | 300 (nginx) | 3.0" in text


def test_doubtful_samples_are_named() -> None:
    fine = sample("json-32", "nginx", contender_cpu_share=0.9, core1_share=0.95, core0_share=0.5)
    disturbed = sample("json-32", "vastproxy", 2, contender_cpu_share=0.5, core1_share=0.9, core0_share=0.5)
    full = sample("sse-400", "nginx", contender_cpu_share=0.5, core1_share=0.5, core0_share=0.99)
    silent = sample("json-1", "vastproxy", requests=1000, log_lines=3)
    text = tables.doubts(Results(document(fine, disturbed, full, silent)))
    assert len(text.splitlines()) == 3
    assert "json-32, vastproxy over SSH, round 2: others used 40 %" in text
    assert "sse-400, nginx, round 1: the helpers' core was full" in text
    assert "json-1, vastproxy over SSH, round 1: 3 access log lines for 1,000 requests" in text
    assert tables.doubts(Results(document(fine))) == "None."


def test_a_machine_that_was_never_idle_is_told_in_a_bounded_list() -> None:
    samples = [
        sample("json-32", "nginx", number, contender_cpu_share=0.1, core1_share=0.9) for number in range(50)
    ]
    lines = tables.doubts(Results(document(*samples))).splitlines()
    assert len(lines) == tables.MOST_DOUBTS + 1
    assert lines[-1].startswith("- and 30 more")


def test_sizes_of_a_fleet_stand_in_their_order() -> None:
    figures = {"probing, % @ 1000": 5.0, "lease, µs @ 3": 1.0, "lease, µs @ 64": 2.0}
    found = {"work": "scale", "contender": "vastproxy", "round": 1, "figures": figures}
    head = tables.work_section(Results(document(found)), "scale").splitlines()[2]
    assert head == "|  | 3 backends | 64 backends | 1000 backends |"


def test_only_what_is_between_the_markers_changes() -> None:
    text = "before\n<!-- bench:works -->\nold\n<!-- /bench:works -->\nafter\n"
    once = put_between(text, "works", "new")
    assert once == "before\n<!-- bench:works -->\n\nnew\n\n<!-- /bench:works -->\nafter\n"
    assert put_between(once, "works", "new") == once
    with pytest.raises(BenchError, match="found them 0 times"):
        put_between(text, "targets", "new")


def test_the_page_has_a_place_for_every_section(tmp_path: Path) -> None:
    text = (ROOT / "docs" / "PERFORMANCE.md").read_text()
    for name, content in sections(
        Results(document(sample("idle", "nginx", rss_mb=5.0, seconds=8.0))), tmp_path
    ).items():
        text = put_between(text, name, content)


def test_the_summary_keeps_median_and_range_and_failures() -> None:
    failed = {"work": "json-32", "contender": "litellm", "round": 1, "error": "no"}
    found = summarise(
        Results(
            document(sample("json-32", "nginx", 1, rps=1.0), sample("json-32", "nginx", 2, rps=3.0), failed)
        )
    )
    assert found["works"] == {"json-32": {"nginx": {"rps": [2.0, 1.0, 3.0]}, "litellm": {"error": "no"}}}
    assert found["versions"] == {"nginx": "1.22.1"}


def test_a_file_of_somebody_else_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.json"
    with pytest.raises(BenchError, match="cannot read"):
        read_results(path)
    path.write_text("no json")
    with pytest.raises(BenchError, match="not JSON"):
        read_results(path)
    path.write_text(json.dumps({"format": 99}))
    with pytest.raises(BenchError, match="this version"):
        read_results(path)
    path.write_text(json.dumps(document()))
    assert read_results(path).works == []


def test_one_giant_does_not_flatten_the_others() -> None:
    assert limit([11_000.0, 50.0, 40.0]) == pytest.approx(50 * 1.35)
    assert limit([60.0, 50.0]) == pytest.approx(60 * 1.35)


def test_every_work_has_a_name_and_contenders() -> None:
    for name, work in WORKS.items():
        assert work.name == name
        assert work.contenders
