"""Every method of the catalog rehearsed on one model, with the reasons of those that don't fit."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from skipdit.catalog import Catalog, parse
from skipdit.core.policy import Policy
from skipdit.rehearse.rehearsal import Rehearsal, rehearse, timesteps


class Refused(NamedTuple):
    """A method that doesn't fit a model with its defaults."""

    policy: str
    reason: str

    def as_dict(self) -> dict[str, Any]:
        return {"policy": self.policy, "refused": self.reason}


def rehearsals(
    model: Any, wanted: Sequence[Policy | str], steps: int, sampler: str | None = None
) -> Iterator[Rehearsal | Refused]:
    """Policies, and methods by their names: with their defaults, which may not fit.

    Raises ValueError for a sampler that the model doesn't have, and for a policy that doesn't fit.
    """
    timesteps(model, steps, sampler)
    for each in wanted:
        if isinstance(each, str):
            yield _by_default(model, each, steps, sampler)
        else:
            yield rehearse(model, each, steps, sampler)


def lined_up(said: Sequence[Policy] = ()) -> list[Policy | str]:
    """The methods' names in order, each replaced by the policies of that method, if there are any."""
    names = Catalog("skipdit.methods").names()
    by_name: dict[str, list[Policy]] = {}
    for policy in said:
        by_name.setdefault(str(policy).partition("(")[0], []).append(policy)
    plans = [policy for name, policies in by_name.items() if name not in names for policy in policies]
    return [*plans, *(each for name in names for each in by_name.get(name, [name]))]


def default(name: str) -> Policy | Refused:
    """A method with its defaults."""
    try:
        return parse(name)
    except ValueError as error:
        return refused(name, error)


def refused(name: str, error: Exception) -> Refused:
    """With the reason that was given, but for the name."""
    return Refused(name, str(error).removeprefix(f"policy {name!r}: ").removeprefix(f"{name} "))


def _by_default(model: Any, name: str, steps: int, sampler: str | None) -> Rehearsal | Refused:
    policy = default(name)
    try:
        return policy if isinstance(policy, Refused) else rehearse(model, policy, steps, sampler)
    except (ValueError, TypeError) as error:
        return refused(name, error)
