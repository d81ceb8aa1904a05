"""Trains a model of the zoo.

    python -m trainers.train --model=convexp_glow.digits --workdir=runs/digits

Each "epoch" of the progress bar is a report: a line in `metrics.jsonl` and `metrics.csv`, the loss
on the validation split, a picture of samples, and a backup from which `--resume` goes on exactly.
The trained model ends in `workdir/preset`, which `zoo.load` reads.
"""

from absl import app, flags

import zoo
from trainers import command_line, program
from trainers.runs import training

FLAGS = flags.FLAGS
SHARED_FLAGS = (
    *command_line.PRESET_FLAGS,
    *("dataset", "condition", "data_dir", "batch_size", "seed", "jit", "loop", "shards", "set"),
    "recipe",
    *command_line.PICTURE_FLAGS,
    *command_line.TABLE_FLAGS,
    *("memory", "ema", "transport_cost", "weight_l2", "spectral_cap", "check_finite"),
)
flags.DEFINE_bool("resume", False, "Go on with the run in --workdir.")
flags.DEFINE_integer(
    "steps", None, "Number of optimiser steps. Default: the model's.", lower_bound=1
)
flags.DEFINE_float("epochs", None, "Passes over the data, in place of --steps.")
flags.DEFINE_float(
    "learning_rate", None, "Peak learning rate. Default: the model's.", lower_bound=0.0
)
flags.DEFINE_integer(
    "report_every",
    None,
    "Steps between reports, a divisor of the steps. Default: about 20 reports.",
    lower_bound=1,
)
flags.DEFINE_integer(
    "steps_per_execution",
    None,
    "Steps that run before the host, which reads their loss, is waited for; a divisor of those "
    "between reports. Default: up to 20 on one accelerator, 1 on a CPU and on several replicas, "
    "where Keras can do no other.",
    lower_bound=1,
)
flags.DEFINE_integer(
    "num_validation",
    1000,
    "Images of the validation split to score a report; 0 for none.",
    lower_bound=0,
)
flags.DEFINE_string(
    "init",
    None,
    "Name, path or URL of a preset, or the folder of a run, whose weights the training starts "
    "from, as far as they fit by path and shape. Without --model, the model is the preset's.",
)
flags.DEFINE_bool(
    "init_act_norm",
    False,
    "With --init, initialise every ActNorm from the data all the same, as without.",
)
flags.DEFINE_multi_string(
    "freeze",
    [],
    "Pattern of paths of variables, with shell wildcards, that are not trained, such as "
    '--freeze="*levels/0/*"; may be repeated. `tfflows.named_variables` lists the paths.',
)
flags.DEFINE_integer(
    "early_stopping",
    None,
    "Reports without improvement on the validation split after which the run ends.",
    lower_bound=1,
)
flags.DEFINE_enum(
    "keep",
    None,
    ["best", "last"],
    "Which weights the preset has: those of the report with the best score on the validation "
    "split, or the last. Default: the best with --early_stopping, else the last.",
)
flags.DEFINE_bool(
    "volume",
    False,
    "Record log-det, variance and steepness of every layer at every report: volume.jsonl, "
    "TensorBoard, and the figure volume.png.",
)
flags.DEFINE_integer(
    "volume_iterations",
    4,
    "Power iterations for the steepness of each layer; 0 for none.",
    lower_bound=0,
)
flags.DEFINE_bool("list", False, "List the models and exit.")


def main(argv: list[str]) -> None:
    """Reads the flags and trains."""
    del argv
    if FLAGS.list:
        print("\n".join(zoo.list_models()))
        return
    if not FLAGS.workdir:
        raise app.UsageError("--workdir must be given.")
    training.train(command_line.read_run())


if __name__ == "__main__":
    program.run(main, SHARED_FLAGS)
