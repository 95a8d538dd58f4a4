"""Cameras: each is read by a process of its own, which is watched by its frames."""
