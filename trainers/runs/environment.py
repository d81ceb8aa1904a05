"""What a run is on: versions, machine, and what that decides."""

import importlib.metadata
import os
import platform
from collections.abc import Sequence

import tensorflow as tf

from tfflows.evaluation.state import has_accelerator

DEEP = 500  # Trainable variables from which on a sooner start outweighs slower steps.
PACKAGES = ("tensorflow", "tensorflow-probability", "keras", "tensorflow-datasets", "numpy")


def use_jit(jit: str, event_shape: Sequence[int]) -> bool:
    """Returns whether XLA compiles the step for such events: `jit` is "auto", "on" or "off"."""
    return suits_xla(event_shape) if jit == "auto" else jit == "on"


def use_loop(loop: str, jit: bool, event_shape: Sequence[int], num_variables: int) -> bool:
    """Returns whether layers of the step that repeat are a loop: `loop` is as `jit` of `use_jit`.

    Args:
      loop: "auto", "on" or "off".
      jit: whether XLA compiles the step.
      event_shape: shape of an event.
      num_variables: number of trainable variables of the model.
    """
    if loop == "auto":
        return jit and suits_xla(event_shape) and num_variables >= DEEP
    return loop == "on"


def suits_xla(event_shape: Sequence[int]) -> bool:
    """Returns whether steps with such events are short for the host: compile them, call several."""
    return has_accelerator() or len(event_shape) < 3


def versions() -> dict[str, str]:
    """Returns the versions of Python and of the packages that decide what a run computes."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        found[package] = importlib.metadata.version(package)
    return found


def machine() -> str:
    """Returns what the run is on, in a few words."""
    gpus = tf.config.list_physical_devices("GPU")
    if gpus:
        return f"{len(gpus)} GPU"
    return f"{len(os.sched_getaffinity(0))} CPU cores"
