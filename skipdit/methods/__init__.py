"""Caching methods, one published method a file: `methods.skip_cache(every=2)`, spelled alike on the command line."""

from skipdit.catalog import Catalog, Namesakes

Namesakes.adopt(__name__)
__getattr__ = Catalog(__name__).method
__dir__ = Catalog(__name__).names
