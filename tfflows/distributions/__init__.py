"""What a flow needs around it: bases, dequantised images, temperature."""

from tfflows.distributions.dequantized import Dequantized, FlowDequantizer
from tfflows.distributions.normal import standard_normal, trainable_normal
from tfflows.distributions.temperature import with_temperature

__all__ = [
    "Dequantized",
    "FlowDequantizer",
    "standard_normal",
    "trainable_normal",
    "with_temperature",
]
