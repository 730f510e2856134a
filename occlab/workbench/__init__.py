"""Screens for a notebook, made of ipywidgets over the rest of the library. They hold no logic of their own."""

from .picker import FolderPicker

__all__ = ["FolderPicker"]
