"""Policies held against a transformer of diffusers, on the clock alone: nothing is run, so a gate has no plan."""

from typing import Any

from skipdit.cli import describe


def plan(wanted: Any, model: Any, backbone: Any, steps: int, pairs: Any) -> dict[str, Any]:
    """What a policy would spare, or why a method (by its name) doesn't fit with its defaults. Raises ValueError for a
    policy that doesn't fit."""
    from skipdit.rehearse.every import Refused, default, refused

    policy = default(wanted) if isinstance(wanted, str) else wanted
    if isinstance(policy, Refused):
        return policy.as_dict()
    try:
        found = describe.rehearsed(model, backbone, policy, steps, pairs)
    except ValueError as error:
        if not isinstance(wanted, str):
            raise
        return refused(wanted, error).as_dict()
    if found["plan"] is None:
        return {"policy": str(policy), **found}
    units = len(found["sites"]) if isinstance(found["sites"][0], str) else len(backbone.order(model))
    counts = {"run": steps * units - sum(found["spared"]), "of": steps * units}
    return {"policy": str(policy), **found, "share": sum(found["plan"]) / steps, **counts}
