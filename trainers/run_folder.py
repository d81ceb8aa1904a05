"""The folder of a run: what its `config.json` holds, against what the flags of a new start ask."""

import dataclasses
import json
import pathlib
import shlex
import sys

from absl import flags

import zoo
from trainers import settings

FLAGS = flags.FLAGS
flags.DEFINE_multi_string(
    "set",
    [],
    "Argument of the architecture to change, as name=value with a JSON value, such as "
    "--set=steps=[8,8,8] or --set=contraction=tanh; `zoo.describe(name)` lists them.",
)
flags.DEFINE_bool(
    "recompute",
    None,
    "Gradient checkpointing: compute blocks and couplings again in the backward pass rather than "
    "keep what they computed. Less memory, about a third more time. Default: off, or what the run "
    "to resume did.",
)
flags.DEFINE_bool("resume", False, "Go on with the run in --workdir.")


def model_name():
    """Returns the name of the model of the run in --workdir, or `None` if there is no run."""
    path = pathlib.Path(FLAGS.workdir) / settings.CONFIG
    return json.loads(path.read_text())["model"] if path.is_file() else None


def with_changes(entry):
    """Returns the entry with the arguments of `--set`, or with those of the run to resume."""
    path = pathlib.Path(FLAGS.workdir) / settings.CONFIG
    if FLAGS.resume and path.is_file() and not FLAGS.set:
        stored = json.loads(path.read_text())
        if stored.get("model") == entry.name:
            return dataclasses.replace(entry, arguments=stored["arguments"])
    return dataclasses.replace(entry, arguments=changed(entry.arguments, FLAGS.set, "--set"))


def changed(entries, texts, flag):
    """Returns a copy of a dictionary with the changes `name=value`, the values in JSON or text."""
    entries = dict(entries)
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or name not in entries:
            raise ValueError(
                f"`{flag}` must be name=value with a name among {sorted(entries)}. "
                f"Received: {flag}={text}."
            )
        try:
            entries[name] = json.loads(value)
        except json.JSONDecodeError:
            entries[name] = value
    return entries


def default_recipe(entry):
    """Returns the recipe that flags override: that of the run to resume, or else the model's."""
    path = pathlib.Path(FLAGS.workdir) / settings.CONFIG
    if FLAGS.resume and path.is_file():
        return zoo.Recipe(**json.loads(path.read_text())["recipe"])
    return entry.recipe


def use_recompute():
    """Returns whether blocks are computed again: as the flag says, or as the run to resume did."""
    if FLAGS.recompute is None and FLAGS.resume:
        path = pathlib.Path(FLAGS.workdir) / settings.CONFIG
        return path.is_file() and json.loads(path.read_text()).get("recompute", False)
    return bool(FLAGS.recompute)


def open_workdir(model, recipe):
    """Makes the work directory, or checks that it is one to resume; returns its path."""
    workdir = pathlib.Path(FLAGS.workdir)
    config = {"model": model.name, "arguments": dict(model.arguments), "seed": FLAGS.seed}
    if not FLAGS.resume:
        if workdir.exists() and any(workdir.iterdir()):
            raise ValueError(
                "`--workdir` is not empty: give --resume to go on with its run, or another "
                f"folder. Received: --workdir={workdir}."
            )
    else:
        path = workdir / settings.CONFIG
        if not path.is_file():
            raise ValueError(
                f"There is no run to resume: {path} does not exist. "
                f"Received: --workdir={workdir}, --resume."
            )
        before = json.loads(path.read_text())
        config = json.loads(json.dumps(config))
        for key in config:
            if before.get(key) != config[key]:
                raise ValueError(
                    f"`--workdir` holds the run of another model: its {key} is "
                    f"{before.get(key)!r}. Received: {config[key]!r}."
                )
    settings.write_json(
        workdir / settings.CONFIG,
        {
            **config,
            "recipe": dataclasses.asdict(recipe),
            "strategy": FLAGS.strategy,
            "precision": FLAGS.precision,
            "jit": settings.use_jit(model.event_shape),
            "recompute": use_recompute(),
            "data_dir": FLAGS.data_dir,
            "command": shlex.join(["python", "-m", "trainers.train", *sys.argv[1:]]),
            "versions": settings.versions(),
        },
    )
    return workdir
