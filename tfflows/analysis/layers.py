"""What each layer of a flow does to a batch."""

import contextlib
import dataclasses
from collections.abc import Iterator

import tensorflow as tf
from tensorflow_probability import bijectors as tfb

from tfflows.evaluation.evaluate import forward_and_log_det
from tfflows.evaluation.state import observe_layers
from tfflows.types import Ndims, TensorLike


@dataclasses.dataclass(frozen=True)
class LayerRecord:
    """One evaluation of one bijector.

    Attributes:
      name: name of the bijector.
      bijector: the bijector.
      input: what it was given.
      output: what it returned.
      log_det: its log-det.

    #### Example

    ```python
    import tensorflow as tf
    from tfflows import analysis, bijectors

    for record in analysis.record_layers(bijectors.Squeeze(), tf.ones([2, 4, 4, 1])):
        print(record.name, record.output.shape)  # squeeze (2, 2, 2, 4)
    ```
    """

    name: str
    bijector: tfb.Bijector
    input: tf.Tensor
    output: tf.Tensor
    log_det: tf.Tensor


@contextlib.contextmanager
def record_evaluations() -> Iterator[list[LayerRecord]]:
    """Records every evaluation of a bijector inside the `with` block.

    A composed bijector comes after its parts. A model's outermost bijector, which TFP calls itself,
    is left out.

    Yields:
      A list, to which `LayerRecord`s are added.
    """
    records = []
    with observe_layers(
        after=lambda bijector, x, y, log_det: records.append(
            LayerRecord(bijector.name, bijector, x, y, log_det)
        )
    ):
        yield records


def record_layers(
    flow: tfb.Bijector, x: TensorLike, event_ndims: Ndims | None = None
) -> list[LayerRecord]:
    """Returns a `LayerRecord` for every bijector of a flow, in the order of evaluation.

    A composed bijector comes after its parts.

    Args:
      flow: any `tfb.Bijector`.
      x: a batch, given to `forward`.
      event_ndims: rank of the events of `x`; by default `flow.forward_min_event_ndims`.
    """
    with record_evaluations() as records:
        forward_and_log_det(flow, x, event_ndims)
    return records


def first_non_finite(flow: tfb.Bijector, x: TensorLike) -> LayerRecord | None:
    """Returns the first `LayerRecord` whose output or log-det is not finite, or `None`.

    Args:
      flow: any `tfb.Bijector`.
      x: a batch, in eager mode.
    """
    for record in record_layers(flow, x):
        if not (_finite(record.output) and _finite(record.log_det)):
            return record
    return None


def _finite(tensor):
    return bool(tf.reduce_all(tf.math.is_finite(tensor)))
