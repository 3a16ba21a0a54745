"""What a step asks of the model, one way a file: `sample(..., passes=passes.reuse(every=2))`, spelled alike as text."""

from skipdit.catalog import Catalog, Namesakes

Namesakes.adopt(__name__)
__getattr__ = Catalog(__name__).method
__dir__ = Catalog(__name__).names
