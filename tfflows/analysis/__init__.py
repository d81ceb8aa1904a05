"""What papers measure."""

from tfflows.analysis.bits import bits_per_dim
from tfflows.analysis.calibration import Calibration, check_calibration, coverage
from tfflows.analysis.latents import interpolate, resample_levels
from tfflows.analysis.layers import LayerRecord, first_non_finite, record_layers
from tfflows.analysis.linear_optimum import ppca_flow, quasi_linear_optimum
from tfflows.analysis.round_trip import inverse_iterations, round_trip_error
from tfflows.analysis.volume import LayerVolume, jacobian_norm, volume_report

__all__ = [
    "Calibration",
    "LayerRecord",
    "LayerVolume",
    "bits_per_dim",
    "check_calibration",
    "coverage",
    "first_non_finite",
    "interpolate",
    "inverse_iterations",
    "jacobian_norm",
    "ppca_flow",
    "quasi_linear_optimum",
    "record_layers",
    "resample_levels",
    "round_trip_error",
    "volume_report",
]
