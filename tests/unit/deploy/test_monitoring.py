"""Dashboard and alerts speak of metrics that the proxy tells, by labels that these have."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.helpers.promql import ALWAYS, OWN, spoken
from tests.helpers.scraped import Scraped
from tests.helpers.watched import full_page

ROOT = Path(__file__).parents[3]
DEPLOY = ROOT / "deploy"
DASHBOARD: dict[str, Any] = json.loads((DEPLOY / "grafana/dashboards/vastproxy.json").read_text())
RULES: list[dict[str, Any]] = [
    rule
    for group in yaml.safe_load((DEPLOY / "prometheus/rules.yaml").read_text())["groups"]
    for rule in group["rules"]
]
PANELS: list[dict[str, Any]] = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]


def expressions() -> Iterator[tuple[str, str]]:
    """Where an expression stands, and the expression."""
    for panel in PANELS:
        for target in panel["targets"]:
            yield f"{panel['title']} {target['refId']}", target["expr"]
    for variable in DASHBOARD["templating"]["list"]:
        if variable["type"] == "query":
            metric, _ = re.fullmatch(r"label_values\((.*), (\w+)\)", variable["definition"]).groups()  # type: ignore[union-attr]
            yield f"${variable['name']}", metric
    for rule in RULES:
        yield rule["alert"], rule["expr"]


def labels_of(page: Scraped, metric: str) -> set[str]:
    return {label for labels in page.all(metric) for label, _ in labels} | ALWAYS


@pytest.mark.parametrize(("where", "expr"), list(expressions()), ids=lambda text: text[:40])
async def test_every_expression_speaks_of_what_there_is(where: str, expr: str) -> None:
    page, said = await full_page(), spoken(expr)
    assert said.metrics
    for metric in said.metrics - OWN:
        assert metric in page.names, f"{where}: there is no {metric}"
    for metric, label in said.selected:
        assert metric in OWN or label in labels_of(page, metric), f"{where}: {metric} has no label {label}"
    every = set().union(*(labels_of(page, metric) for metric in said.metrics))
    assert said.grouped <= every, f"{where}: {said.grouped - every}"


@pytest.mark.parametrize("panel", PANELS, ids=lambda panel: panel["title"])
def test_legends_name_labels_that_are_left(panel: dict[str, Any]) -> None:
    for target in panel["targets"]:
        shown = set(re.findall(r"{{(\w+)}}", target["legendFormat"]))
        said = spoken(target["expr"])
        assert shown <= said.grouped | ALWAYS, panel["title"]


def test_panels_do_not_lie_on_each_other() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        at = panel["gridPos"]
        area = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not area & taken, panel["title"]
        assert at["x"] + at["w"] <= 24
        taken |= area
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(ids) == len(set(ids))


def test_every_panel_asks_the_chosen_source() -> None:
    for panel in PANELS:
        for part in (panel, *panel["targets"]):
            assert part["datasource"] == {"type": "prometheus", "uid": "${datasource}"}, panel["title"]


def test_every_alert_is_in_the_runbook_and_has_a_meaning() -> None:
    runbook = (ROOT / "docs/RUNBOOK.md").read_text()
    names = [rule["alert"] for rule in RULES]
    assert len(names) == len(set(names)) >= 10
    for rule in RULES:
        assert f"| {rule['alert']} |" in runbook, rule["alert"]
        assert rule["labels"]["severity"] in {"critical", "warning"}
        assert rule["annotations"].keys() == {"summary", "description"}
    told = set(re.findall(r"(?m)^\| (Vastproxy\w+) \|", runbook))
    assert told == set(names), "the runbook tells of alerts that there are not"


async def test_what_alerts_say_is_there_to_be_said() -> None:
    """A label in a sentence that its result does not have would be an empty word."""
    page = await full_page()
    for rule in RULES:
        said = spoken(rule["expr"])
        have = said.grouped | ALWAYS
        if "sum" not in rule["expr"]:
            have |= set().union(*(labels_of(page, metric) for metric in said.metrics))
        shown = set(re.findall(r"\$labels\.(\w+)", rule["annotations"]["summary"]))
        assert shown <= have, rule["alert"]


def promtool(*arguments: str) -> str:
    """What promtool says. Skips where it is not installed (Debian: the package prometheus)."""
    tool = shutil.which("promtool")
    if tool is None:
        pytest.skip("promtool is not installed")
    done = subprocess.run(
        [tool, *arguments], cwd=DEPLOY / "prometheus", capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_promtool_accepts_the_rules() -> None:
    assert f"{len(RULES)} rules found" in promtool("check", "rules", "rules.yaml")


def test_promtool_sees_the_rules_fire_and_stay_silent() -> None:
    assert "SUCCESS" in promtool("test", "rules", "rules.test.yaml")


def test_promtool_accepts_the_configuration() -> None:
    promtool("check", "config", "--syntax-only", "prometheus.yml")


def test_every_alert_is_tried() -> None:
    """Also where promtool is not there to try them."""
    first, second = yaml.safe_load((DEPLOY / "prometheus/rules.test.yaml").read_text())["tests"]
    fired = {sample["labels"] for sample in first["promql_expr_test"][0]["exp_samples"]}
    assert fired == {f'{{alertname="{rule["alert"]}"}}' for rule in RULES}
    assert second["promql_expr_test"][0]["exp_samples"] == []
