"""The list endpoint's language: filters, order, columns, pages (vast.ai API docs, 2026-08). Pure."""

import base64
import binascii
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from vastproxy.simulator.errors import Refusal, invalid_args
from vastproxy.simulator.payloads import JsonObject

MAX_LIMIT = 25
#: What a limit of zero or less acts as.
FALLBACK_LIMIT = 5

#: Columns that the server computes for the answer; the database cannot filter or sort by them.
COMPUTED = frozenset(
    {"dph_total", "num_gpus", "duration", "time_remaining", "time_remaining_isbid", "search", "instance"}
    | {"gpu_totalram", "uptime_mins", "dlperf_per_dphtotal", "flops_per_dphtotal", "score", "volume_info"}
)

OPERATORS = ("eq", "neq", "gt", "gte", "lt", "lte", "in", "notin")

Order = tuple[tuple[str, bool], ...]


@dataclass(frozen=True, slots=True)
class ListQuery:
    """A list request that was understood. `order` holds (column, descending) and always ends with the id."""

    limit: int = MAX_LIMIT
    filters: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    order: Order = (("id", False),)
    columns: tuple[str, ...] | None = None
    after: tuple[Any, ...] | None = None


def parse_query(params: Mapping[str, str]) -> ListQuery:
    """Read the query string. Raises Refusal (400) as the API does."""
    order = _parse_order(_parse_json(params, "order_by", []))
    return ListQuery(
        limit=_parse_limit(params.get("limit")),
        filters=_parse_filters(_parse_json(params, "select_filters", {})),
        order=order,
        columns=_parse_columns(_parse_json(params, "select_cols", ["*"])),
        after=_parse_token(params.get("after_token"), order),
    )


def _parse_json(params: Mapping[str, str], name: str, default: Any) -> Any:
    text = params.get(name)
    if not text:
        return default
    try:
        return json.loads(text)
    except ValueError:
        raise invalid_args(f"{name} is not JSON") from None


def _parse_limit(text: str | None) -> int:
    if text is None:
        return MAX_LIMIT
    try:
        limit = int(text)
    except ValueError:
        raise invalid_args("limit is not a number") from None
    return min(limit, MAX_LIMIT) if limit > 0 else FALLBACK_LIMIT


def _parse_filters(value: Any) -> dict[str, Mapping[str, Any]]:
    if not isinstance(value, dict):
        raise invalid_args("select_filters is not an object")
    for column, conditions in value.items():
        _check_column(column)
        if not isinstance(conditions, dict) or not set(conditions) <= set(OPERATORS):
            raise invalid_args(f"select_filters: unknown operator for {column}")
    return value


def _parse_order(value: Any) -> Order:
    if not isinstance(value, list):
        raise invalid_args("order_by is not a list")
    order: list[tuple[str, bool]] = []
    for entry in value:
        if not isinstance(entry, dict) or not isinstance(entry.get("col"), str):
            raise invalid_args("order_by: an entry needs a col")
        _check_column(entry["col"])
        order.append((entry["col"], entry.get("dir", "asc") == "desc"))
    if "id" not in {column for column, _ in order}:
        order.append(("id", False))
    return tuple(order)


def _check_column(column: str) -> None:
    if column in COMPUTED:
        raise Refusal(400, "invalid_request", f"Cannot filter on column {column}")


def _parse_columns(value: Any) -> tuple[str, ...] | None:
    if not isinstance(value, list) or not all(isinstance(column, str) for column in value):
        raise invalid_args("select_cols is not a list of names")
    return None if "*" in value else tuple(value)


def make_token(row: JsonObject, order: Order) -> str:
    """A cursor that continues after `row`, whatever is created or destroyed meanwhile."""
    values = {column: row.get(column) for column, _ in order}
    return base64.b64encode(json.dumps({"values": values}).encode()).decode()


def _parse_token(token: str | None, order: Order) -> tuple[Any, ...] | None:
    if not token:
        return None
    try:
        values = json.loads(base64.b64decode(token, validate=True))["values"]
        return tuple(values[column] for column, _ in order)
    except (binascii.Error, ValueError, KeyError, TypeError):
        raise Refusal(400, "invalid_token", "Invalid pagination token") from None


def run_query(rows: Iterable[JsonObject], query: ListQuery) -> JsonObject:
    """The answer of the v1 list endpoint to `query` over all of the account's rows."""
    matching = [row for row in rows if matches(row, query.filters)]
    for column, descending in reversed(query.order):
        matching.sort(key=lambda row: _sort_key(row.get(column)), reverse=descending)
    rest = matching if query.after is None else [row for row in matching if _is_after(row, query)]
    page, more = rest[: query.limit], len(rest) > query.limit
    labels: dict[str, int] = {}
    for row in matching:
        labels[row.get("label") or ""] = labels.get(row.get("label") or "", 0) + 1
    return {
        "success": True,
        "instances_found": len(page),
        "total_instances": len(matching),
        "label_counts": labels,
        "next_token": make_token(page[-1], query.order) if more else None,
        "instances": [_select(row, query.columns) for row in page],
    }


def _is_after(row: JsonObject, query: ListQuery) -> bool:
    assert query.after is not None
    for (column, descending), seen in zip(query.order, query.after, strict=True):
        mine, last = _sort_key(row.get(column)), _sort_key(seen)
        if mine != last:
            return (mine < last) if descending else (mine > last)
    return False


def _sort_key(value: Any) -> tuple[int, Any]:
    """Comparable for any JSON value: null is greatest (PostgreSQL's rule), numbers come before texts."""
    if value is None:
        return (3, 0)
    if isinstance(value, bool | int | float):
        return (0, value)
    return (1, value) if isinstance(value, str) else (2, json.dumps(value, sort_keys=True))


def _select(row: JsonObject, columns: Sequence[str] | None) -> JsonObject:
    return row if columns is None else {column: row.get(column) for column in columns}


def matches(row: JsonObject, filters: Mapping[str, Mapping[str, Any]]) -> bool:
    """Does every condition on every column hold? Numbers may be asked for as texts: the official CLI does."""
    return all(
        holds(row.get(column), operator, wanted)
        for column, conditions in filters.items()
        for operator, wanted in conditions.items()
    )


def holds(value: Any, operator: str, wanted: Any) -> bool:
    """One condition. Ordering against null, or against something of another type, never holds."""
    if operator in ("in", "notin"):
        found = any(_equal(value, one) for one in (wanted if isinstance(wanted, list) else [wanted]))
        return found == (operator == "in")
    if operator in ("eq", "neq"):
        return _equal(value, wanted) == (operator == "eq")
    left, right = _sort_key(value), _sort_key(_coerce(wanted, value))
    if value is None or left[0] != right[0]:
        return False
    greater, equal = left > right, left == right
    return {"gt": greater, "gte": greater or equal, "lt": not greater and not equal, "lte": not greater}[
        operator
    ]


def _equal(value: Any, wanted: Any) -> bool:
    return bool(value == _coerce(wanted, value))


def _coerce(wanted: Any, like: Any) -> Any:
    if isinstance(wanted, str) and isinstance(like, int | float) and not isinstance(like, bool):
        try:
            return float(wanted)
        except ValueError:
            return wanted
    return wanted
