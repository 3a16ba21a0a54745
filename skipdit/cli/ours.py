"""A model of our own, by name: a DiT or a Latte, shipped, in a folder, or on the hub."""

from typing import Any


def ours(name: str) -> Any:
    """Load it. Raises FileNotFoundError where there is none, ValueError for a model of another library."""
    from skipdit.backbones.dit import described
    from skipdit.convert import own_class

    _, config = described(name)
    kind = own_class(config.get("_class_name"))
    if kind is None:
        raise ValueError(
            f"{name} holds a {config.get('_class_name')}, and this command is for a DiT or Latte of skipdit: "
            "in Python, skipdit.attach works on any pipeline of diffusers"
        )
    return kind.from_pretrained(name)
