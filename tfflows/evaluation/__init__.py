"""How flows are evaluated: output and log-det at once, initialised, watched, in less memory."""

from tfflows.evaluation.constants import of_weights
from tfflows.evaluation.evaluate import forward_and_log_det, initialize, inverse_and_log_det
from tfflows.evaluation.network_calls import call_network, calling_networks
from tfflows.evaluation.state import (
    estimating,
    for_accelerator,
    looping,
    memory,
    observe_layers,
)

__all__ = [
    "call_network",
    "calling_networks",
    "estimating",
    "for_accelerator",
    "forward_and_log_det",
    "initialize",
    "inverse_and_log_det",
    "looping",
    "memory",
    "observe_layers",
    "of_weights",
]
