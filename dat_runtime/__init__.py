"""DAT in the field: what edge nodes and the receiver run, and what every stage agrees on."""

__version__ = "0.1.0"
