"""Learning-rate schedules and optimisers of the recipes."""

from collections.abc import Mapping
from typing import Any, Self

import keras

import zoo


@keras.saving.register_keras_serializable(package="trainers")
class Warmup(keras.optimizers.schedules.LearningRateSchedule):
    """Warm-up and floor of a schedule: `max(schedule(t), least) min(1, (t + 1) / steps)^power`.

    Args:
      schedule: a `LearningRateSchedule`.
      steps: length of the warm-up.
      least: smallest rate after the warm-up.
      power: 1 for a linear warm-up.
    """

    def __init__(
        self,
        schedule: keras.optimizers.schedules.LearningRateSchedule,
        steps: int,
        least: float = 0.0,
        power: float = 1.0,
    ) -> None:
        super().__init__()
        self.least = least
        self.power = power
        self.schedule = schedule
        self.steps = steps

    def __call__(self, step: Any) -> Any:
        """Returns the learning rate of a step."""
        ramp = (keras.ops.cast(step, "float32") + 1.0) / max(self.steps, 1)
        rate = keras.ops.maximum(self.schedule(step), self.least)
        return rate * keras.ops.minimum(1.0, ramp) ** self.power

    def get_config(self) -> dict:
        """Returns the configuration."""
        schedule = keras.optimizers.schedules.serialize(self.schedule)
        return {
            "schedule": schedule,
            "steps": self.steps,
            "least": self.least,
            "power": self.power,
        }

    @classmethod
    def from_config(cls, config: Mapping) -> Self:
        """Makes a schedule from what `get_config` returned."""
        schedule = keras.optimizers.schedules.deserialize(config["schedule"])
        return cls(schedule, config["steps"], config["least"], config["power"])


def make_optimizer(recipe: zoo.Recipe, steps_per_pass: float) -> keras.optimizers.Optimizer:
    """Returns the optimiser of a recipe.

    Args:
      recipe: a `zoo.Recipe`.
      steps_per_pass: steps in which the data are seen once.
    """
    schedules = keras.optimizers.schedules
    if recipe.decay == "linear":
        schedule = schedules.PolynomialDecay(
            recipe.learning_rate, recipe.steps, recipe.final_learning_rate
        )
    elif recipe.decay == "cosine":
        rate, last = recipe.learning_rate, recipe.final_learning_rate
        schedule = schedules.CosineDecay(rate, recipe.steps, last / rate if rate else 0.0)
    else:
        schedule = schedules.ExponentialDecay(
            recipe.learning_rate,
            recipe.decay_steps or steps_per_pass,
            recipe.decay,
            staircase=True,
        )
    kind = {"adam": keras.optimizers.Adam, "adamax": keras.optimizers.Adamax}[recipe.optimizer]
    return kind(
        Warmup(schedule, recipe.warmup_steps, recipe.final_learning_rate, recipe.warmup_power),
        beta_2=recipe.beta_2,
        global_clipnorm=recipe.clip,
        weight_decay=recipe.weight_decay or None,
        use_ema=recipe.ema > 0,
        ema_momentum=recipe.ema or 0.99,
    )
