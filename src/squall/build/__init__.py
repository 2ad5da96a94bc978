"""Recipes to images: base systems and steps, run in the same isolation as functions."""
