"""Normalizing flows for TensorFlow Probability and Keras 3."""

from tfflows._compat import check_versions
from tfflows.start_up import import_tensorflow

check_versions()  # Before TFP, whose own error for a wrong combination is hard to read.
import_tensorflow()

from tfflows import (  # noqa: E402
    analysis,
    bijectors,
    distributions,
    evaluation,
    networks,
    numerics,
    programs,
    regularizers,
    training,
)
from tfflows._version import __version__  # noqa: E402
from tfflows.conditioning import condition, guide  # noqa: E402
from tfflows.inference import for_inference  # noqa: E402
from tfflows.training import FlowModel  # noqa: E402
from tfflows.variables import freeze, named_variables, set_trainable  # noqa: E402

__all__ = [
    "FlowModel",
    "__version__",
    "analysis",
    "bijectors",
    "condition",
    "distributions",
    "evaluation",
    "for_inference",
    "freeze",
    "guide",
    "named_variables",
    "networks",
    "numerics",
    "programs",
    "regularizers",
    "set_trainable",
    "training",
]
