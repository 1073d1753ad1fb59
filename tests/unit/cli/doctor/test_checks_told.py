"""Whatever the doctor may find has a row in the runbook."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[4]
SOURCES = [*(ROOT / "src/services/diagnosis").glob("*.py"), *(ROOT / "src/cli/doctor").glob("*.py")]
#: Ids that are put together.
MADE = {"direct_path", "relay_path", "host_key"}


def ids() -> Iterator[str]:
    """The first argument of every `Check(…)`."""
    for file in SOURCES:
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Check":
                first = node.args[0]
                if isinstance(first, ast.Constant):
                    yield str(first.value)


def test_every_check_is_told_and_no_other() -> None:
    page = (ROOT / "docs/RUNBOOK.md").read_text()
    section = page.partition("### The doctor's lines")[2].partition("\n### ")[0]
    assert set(re.findall(r"(?m)^\| `(\w+)` \| (?!what a warning)", section)) == {*ids(), *MADE}
