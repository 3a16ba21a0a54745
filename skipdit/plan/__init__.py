"""Plans tuned to a budget: run a model on calibration labels, search which steps to compute, write it down as JSON."""

from skipdit.core.attach import plan

__all__ = ["plan"]  # so that skipdit.plan stays the function: see catalog.Namesakes
