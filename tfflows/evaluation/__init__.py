"""How flows are evaluated: output and log-det at once, initialised, watched, in less memory."""

from tfflows.evaluation.checkpointing import memory
from tfflows.evaluation.conditioner import call_network
from tfflows.evaluation.estimation import estimating
from tfflows.evaluation.evaluate import (
    forward_and_log_det,
    initialize,
    inverse_and_log_det,
    observe_layers,
)
from tfflows.evaluation.loops import looping
from tfflows.evaluation.network_calls import calling_networks

__all__ = [
    "call_network",
    "calling_networks",
    "estimating",
    "forward_and_log_det",
    "initialize",
    "inverse_and_log_det",
    "looping",
    "memory",
    "observe_layers",
]
