"""What a flow needs around it: bases, dequantised images, temperature."""

from tfflows.distributions.dequantized import Dequantized, FlowDequantizer
from tfflows.distributions.discrete import density_of, is_discrete, to_real
from tfflows.distributions.normal import standard_normal, trainable_normal
from tfflows.distributions.temperature import with_temperature

__all__ = [
    "Dequantized",
    "FlowDequantizer",
    "density_of",
    "is_discrete",
    "standard_normal",
    "to_real",
    "trainable_normal",
    "with_temperature",
]
