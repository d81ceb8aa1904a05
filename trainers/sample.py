"""Draws samples of a model.

python -m trainers.sample --workdir=runs/digits --temperature=0.8
python -m trainers.sample --model=convexp_glow.digits --output=samples.png
"""

import pathlib

import tensorflow as tf
from absl import app, flags

import zoo
from tfflows.distributions import with_temperature
from trainers import pictures, settings

FLAGS = flags.FLAGS
flags.DEFINE_integer("count", 64, "Number of samples.")
flags.DEFINE_float("temperature", 1.0, "Factor on the standard deviation of the latents.")


def main(argv):
    """Loads the model and draws."""
    del argv
    name, workdir, _ = settings.required_preset()
    distribution = zoo.create(name, pretrained=True, discrete=True)
    model = with_temperature(distribution.distribution, FLAGS.temperature)
    draw = tf.function(lambda: model.sample(FLAGS.count, seed=[FLAGS.seed, 1]))
    images = distribution.to_integers(draw())
    output = pathlib.Path(FLAGS.output or (workdir or pathlib.Path()) / "samples.png")
    pictures.save_grid(output, images, distribution.num_levels)
    print(f"{FLAGS.count} samples at temperature {FLAGS.temperature}: {output}")


if __name__ == "__main__":
    app.run(main)
