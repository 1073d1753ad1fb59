"""What the ledger of this user remembers of machines, for commands that list instances."""

import sqlite3
from collections.abc import Mapping
from typing import Any

from vastproxy.services.ledger.machines import Machine, machines
from vastproxy.services.ledger.place import ledger_path
from vastproxy.services.ledger.schema import UnusableLedger
from vastproxy.services.ledger.store import open_to_read
from vastproxy.settings import Loaded


def remembered(loaded: Loaded) -> dict[int, Machine]:
    """By machine id; nothing where there is no ledger that can be read, which is no reason to fail."""
    path = ledger_path(loaded.settings, loaded.environ)
    if path is None:
        return {}
    try:
        connection = open_to_read(path)
        try:
            return {one.machine_id: one for one in machines(connection)}
        finally:
            connection.close()
    except (OSError, sqlite3.Error, UnusableLedger):
        return {}


def rented_before(machine: object) -> str:
    """What is told of a machine (`Machine.to_json`) that was rented before, in some words; "" of any other."""
    if not isinstance(machine, Mapping) or not machine.get("rented_before"):
        return ""
    told = ["rented before"]
    if isinstance(hours := machine.get("hours"), int | float):
        told.append(f"{hours:.3g} h")
    if isinstance(score := machine.get("score"), int | float):
        told.append(f"score {score:.2f}")
    return ", ".join(told)


def row_of(known: Mapping[int, Machine], machine_id: int | None, identity: str) -> dict[str, Any] | None:
    """What is remembered of the machine of an instance, as JSON."""
    found = None if machine_id is None else known.get(machine_id)
    return None if found is None else found.to_json(identity)
