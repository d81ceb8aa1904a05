"""The version of tfflows, zoo and trainers, which are released together."""

__version__ = "0.1.0"
