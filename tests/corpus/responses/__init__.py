"""Answers of engines by subject. Names of cases are unique within a subject."""

from tests.corpus.cases import ResponseCase
from tests.corpus.responses import bodiless, chunk_lines, framing, heads

RESPONSES: dict[str, tuple[ResponseCase, ...]] = {
    "heads": heads.CASES,
    "framing": framing.CASES,
    "chunk-lines": chunk_lines.CASES,
    "bodiless-and-interim": bodiless.CASES,
}
