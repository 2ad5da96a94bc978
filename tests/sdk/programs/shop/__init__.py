"""A package with an app of its own, which another app includes."""
