"""The user's code on its way into containers: which modules, which files."""

from __future__ import annotations

from squall.sdk.source.collect import Root, app_source, python_source, roots_of
from squall.sdk.source.home import Home, home_of

#: Where containers see it, first on `sys.path`.
TARGET = "/squall/source"

__all__ = ["TARGET", "Home", "Root", "app_source", "home_of", "python_source", "roots_of"]
