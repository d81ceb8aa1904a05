"""What papers measure."""

from tfflows.analysis.bits import bits_per_dim
from tfflows.analysis.layers import LayerRecord, first_non_finite, record_layers
from tfflows.analysis.round_trip import round_trip_error

__all__ = ["LayerRecord", "bits_per_dim", "first_non_finite", "record_layers", "round_trip_error"]
