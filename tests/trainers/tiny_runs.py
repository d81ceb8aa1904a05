"""Runs that end in a moment."""

from absl.testing import flagsaver

import zoo
from trainers import train

TINY = {
    "image_shape": (8, 8, 1),
    "num_levels": 17,
    "steps": (1, 1),
    "widths": (4, 4),
    "network": "conv_net",
    "exponentials": 0,
    "mixing": "conv1x1",
}

RECIPE = zoo.Recipe(dataset="digits", batch_size=16, steps=4, warmup_steps=2)


def run(main=train.main, **values):
    """Runs a binary with flags, which are then as they were."""
    with flagsaver.flagsaver(shards=1, **values):
        main(["binary"])
