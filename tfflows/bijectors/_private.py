"""The parts of TensorFlow and TFP that are not public API. Nothing else imports them.

Each has a public stand-in that would be wrong or slower here; when an upgrade breaks one, this is
the file to mend.
"""

from tensorflow.python import pywrap_tfe  # No public call tells whether a tape records.

# `tfb.Chain([...])` and `tfb.Invert(b)` return instances of these classes, not of their own.
from tensorflow_probability.python.bijectors.chain import _Chain as ChainBase
from tensorflow_probability.python.bijectors.invert import _Invert as InvertBase

__all__ = ["ChainBase", "InvertBase", "recording_state"]


def recording_state(tensor) -> tuple[bool, int]:
    """Returns what the active gradient tapes would record for `tensor`.

    A value that was computed before a tape was opened is not on that tape, so a remembered
    evaluation may only be used while this state is the same as when it was made.

    Args:
      tensor: a `tf.Tensor`.

    Returns:
      A pair: whether any tape is open, and TensorFlow's count of the derivatives (0, 1 or 2 for
      "more") that the open tapes could take with respect to `tensor`.
    """
    return (
        not pywrap_tfe.TFE_Py_TapeSetIsEmpty(),
        pywrap_tfe.TFE_Py_TapeSetPossibleGradientTypes([tensor]),
    )
