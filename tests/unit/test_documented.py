"""Nothing that a user can type, set, read, count or be told is missing from the documents."""

import inspect
import re
import shlex
from dataclasses import fields
from pathlib import Path
from typing import get_args

import pytest
import yaml
from starlette.routing import Route

from scripts.cli_document import commands, with_commands
from tests.helpers.documented import error_codes, event_types, exit_codes, is_told, log_lines, patterns
from tests.helpers.fleet_bench import FleetBench
from vastproxy.api.app import create_app
from vastproxy.cli.check import Grade
from vastproxy.services.events import FleetEvent, Heard
from vastproxy.services.happenings import kind_of
from vastproxy.services.live.history import Point
from vastproxy.services.metrics import families
from vastproxy.services.metrics.exposition import Family
from vastproxy.services.overview import CLOCKS, Overview
from vastproxy.settings.fields import leaves

ROOT = Path(__file__).parents[2]
RUNBOOK = (ROOT / "docs/RUNBOOK.md").read_text()
CLI = (ROOT / "docs/CLI.md").read_text()
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    *sorted(ROOT.glob("docs/*.md")),
    *sorted(ROOT.glob("deploy/*.md")),
]


def test_every_command_and_option_is_told() -> None:
    assert with_commands(CLI) == CLI, "run `make docs`"
    for words, _ in commands():
        assert f"### {words}\n" in CLI


def test_a_page_without_a_place_for_commands_is_refused() -> None:
    with pytest.raises(ValueError, match="markers"):
        with_commands("# nothing here")


def test_every_exit_code_is_told() -> None:
    told = {int(code) for code in re.findall(r"(?m)^\| (\d+) \|", CLI)}
    assert told >= {0, *exit_codes(), *(int(grade) for grade in Grade)}


def test_every_setting_is_told() -> None:
    page = (ROOT / "docs/CONFIGURATION.md").read_text()
    assert [path for path in leaves() if f"`{path}`" not in page] == []


def test_every_metric_is_told() -> None:
    page = (ROOT / "docs/METRICS.md").read_text()
    known = [one for _, one in inspect.getmembers(families) if isinstance(one, Family)]
    assert len(known) > 30
    assert [family.name for family in known if f"`{family.name}`" not in page] == []


def test_every_alert_is_told_and_no_other() -> None:
    rules = yaml.safe_load((ROOT / "deploy/prometheus/rules.yaml").read_text())
    known = {rule["alert"] for group in rules["groups"] for rule in group["rules"] if "alert" in rule}
    section = RUNBOOK.partition("## Alerts")[2].partition("\n## ")[0]
    assert set(re.findall(r"(?m)^\| (Vastproxy\w+) \|", section)) == known


def test_every_error_code_is_told() -> None:
    codes = error_codes()
    assert set(codes) >= {
        "invalid_api_key",
        "backend_unreachable",
        "uri_too_long",
        "invalid_signature",
        "not_found",
    }
    assert {code: file for code, file in codes.items() if f"`{code}`" not in RUNBOOK} == {}


def test_every_event_is_told() -> None:
    section = RUNBOOK.partition("## Events")[2].partition("\n## ")[0]
    assert set(re.findall(r"(?m)^\| `(\w+)` \|", section)) == event_types()


def _tables(page: str) -> list[list[str]]:
    """The cells of every row of every table of a page."""
    text = (ROOT / "docs" / page).read_text()
    rows = [line.strip("|").split("|") for line in text.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in row] for row in rows]


def test_every_kind_of_event_is_told_with_all_of_its_fields() -> None:
    rows = {row[0].strip("`"): row for row in _tables("EVENTS.md")}
    for event in get_args(FleetEvent):
        name, own, when = rows[kind_of(event)][1:4]
        assert name == f"`{event.__name__}`"
        known = {field.name for field in fields(event)} - {"instance_id"}
        if event is Heard:
            known = {"verdict", "instances", "reason"}
        assert known <= set(re.findall(r"`(\w+)`", own)), kind_of(event)
        assert len(when) > 10
    told = {name for name, row in rows.items() if re.fullmatch(r"`[A-Z]\w+`", row[1])}
    assert told == {kind_of(event) for event in get_args(FleetEvent)}


def _admin_routes() -> set[str]:
    """Every request that the admin API takes, with ID where an id belongs."""
    fleet = FleetBench().fleet
    found = set()
    for route in create_app(fleet.settings, fleet=fleet).routes:
        if isinstance(route, Route) and route.path.startswith("/vastproxy/v1/"):
            methods = (route.methods or set()) - {"HEAD"}
            path = re.sub(r"\{[^}]*\}", "ID", route.path)
            found |= {f"{method} {path}" for method in methods}
    return found


def test_every_request_of_the_admin_api_is_told_and_no_other() -> None:
    known = _admin_routes()
    assert known >= {"GET /vastproxy/v1/fleet", "POST /vastproxy/v1/backends/ID/drain"}
    assert {row[0].strip("`") for row in _tables("ADMIN.md") if "/vastproxy/v1/" in row[0]} == known


def test_every_field_of_the_overview_is_told() -> None:
    """Its own, those of `totals`, and those of a backend that the list of backends does not explain."""
    page = (ROOT / "docs/ADMIN.md").read_text()
    overview = Overview(FleetBench().fleet)
    head, clocks = overview.head()
    totals = head.pop("totals")
    row = {"tokens_per_s", "requests_per_s", "errors", *CLOCKS} - {"since_s"}
    for name in (*head, *clocks, *totals, *row, *Point._fields):
        assert f"`{name}`" in page or f'"{name}"' in page or f".{name}`" in page, name


#: Lines whose words come from elsewhere: one of those that they may be is told instead.
PASSED_ON = {
    ("services/backends/gpu_care.py", "[backend=…] …"): "[backend=…] GPU …: …",
    ("services/backends/gpu_care.py", "[backend=…] …: no more"): "[backend=…] GPU …: …",
    ("services/events.py", "[backend=…] … → ……"): "[backend=…] healthy → unhealthy: …",
    ("services/tunnels/keyaccess.py", "…"): "the ssh-agent at … cannot be reached: …",
    ("services/tunnels/known_hosts.py", "… …"): "… line … is not an entry of known_hosts that can be used",
}


def test_every_warning_is_told() -> None:
    """Every log line of WARNING and above has a row that says what it means and what to do."""
    told = patterns(RUNBOOK)
    lines = list(log_lines())
    assert len(lines) > 30
    missing = []
    for line in lines:
        text = PASSED_ON.get((line.file, line.text), line.text)
        if not is_told(text, told):
            missing.append(f"{line.file}: {line.text}")
    assert missing == []


def test_a_text_is_told_by_its_own_words_alone() -> None:
    told = ["…", "the keys in … cannot be used (…)"]
    assert is_told("the keys in … cannot be used (…)", told)
    assert is_told("the keys in /x cannot be used (broken)", told)
    assert not is_told("something else", told)


def _shown() -> list[tuple[str, str]]:
    """Every `vastproxy …` that a page shows as something to type."""
    found = []
    for page in PAGES:
        text = page.read_text()
        blocks = re.findall(r"(?ms)^```(?:console|sh|shell|bash)\n(.*?)^```", text)
        blocks += re.findall(r"(?m)^    (?:sudo )?(vastproxy .*)$", text)
        for line in "\n".join(blocks).replace("\\\n", " ").splitlines():
            for part in re.split(r"&&|\|\||[|;]", line.removeprefix("$ ").split("  #")[0].split(" # ")[0]):
                words = part.strip()
                if re.match(r"(\S*/)?vastproxy( |$)", words):
                    found.append((page.name, words))
        found += [(page.name, one) for one in re.findall(r"`(vastproxy [a-z][^`…]*)`", text)]
    return sorted(set(found))


@pytest.mark.parametrize(("page", "line"), _shown(), ids=lambda value: value)
def test_what_is_shown_to_type_can_be_typed(page: str, line: str) -> None:
    """The command exists, and takes each option that is shown with it."""
    words = shlex.split(line)[1:]
    known = {tuple(name.split()[1:]): command for name, command in commands()}
    if words and words[0] in {"--version", "--help", "-h"}:
        return
    name = next((name for name in known if tuple(words[: len(name)]) == name), None)
    if name is None:
        assert any(other[: len(words)] == tuple(words) for other in known), "there is no such command"
        return
    command = known[name]
    options = {option for parameter in command.params for option in getattr(parameter, "opts", ())} | {
        "--help"
    }
    options |= {option for parameter in command.params for option in getattr(parameter, "secondary_opts", ())}
    given = [word.partition("=")[0] for word in words[len(name) :] if word.startswith("-") and word != "-"]
    assert set(given) <= options
