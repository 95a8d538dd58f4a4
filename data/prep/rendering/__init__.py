"""Rendered road scenes: cameras, roads, vehicles, collisions, weather. numpy and OpenCV only.

Ground coordinates are metres: x to the right of the camera's foot point, y away from it, z up.
"""
