"""The folder of a run: flags against what its `config.json` holds, a lock, and what errors say."""

import contextlib
import dataclasses
import errno
import fcntl
import json
import os
import platform
import shlex
import sys

from absl import flags, logging

from trainers.runs import backup
from trainers.runs import settings
from zoo.storage import files
from zoo.storage import limits

FLAGS = flags.FLAGS
LOCK = ".lock"
# What a run that is resumed takes from its `config.json`, unless it is given again. The recipe and
# the arguments of the model are kept apart.
REMEMBERED = (
    "seed",
    "num_validation",
    "transport_cost",
    "weight_l2",
    "spectral_cap",
    "volume",
    "volume_iterations",
    "memory",
    "loop",
    "check_finite",
    "strategy",
    "cpu_devices",
    "jit",
    "precision",
    "data_dir",
)
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_READ_ONLY = (errno.EROFS, errno.EACCES, errno.EPERM)

flags.DEFINE_multi_string(
    "set",
    [],
    "Argument of the architecture to change, as name=value with a JSON value, such as "
    "--set=steps=[8,8,8] or --set=contraction=tanh; `zoo.describe(name)` lists them.",
)
flags.DEFINE_enum(
    "memory",
    None,
    ["store", "recompute", "invert"],
    "What of the flow a step keeps for its gradient. store: everything. recompute: the input of "
    "each block; about a third more time. invert: next to nothing; inputs are found by inverses. "
    "Default: store, or what the run to resume did.",
)
flags.DEFINE_bool("resume", False, "Go on with the run in --workdir.")


def read():
    """Returns the configuration of the run in --workdir, or `None` if there is no run.

    Raises:
      ValueError: if it is damaged.
    """
    path = files.local(FLAGS.workdir) / settings.CONFIG
    if not path.is_file():
        return None
    config = files.read_json(path)
    if not {"model", "arguments", "seed", "recipe"} <= set(config):
        raise ValueError(
            f"{path} must have the entries model, arguments, seed and recipe of a run. "
            f"Received: {sorted(config)}."
        )
    return config


def restore_flags():
    """Sets the flags that were not given to what the run to resume was begun with."""
    config = read()
    if config is None:
        return
    values = {"model": config["model"], **config.get("flags", {})}
    for name in ("model", "shards", *REMEMBERED):
        if name in values and FLAGS[name].using_default_value:
            setattr(FLAGS, name, values[name])


def stored_interval():
    """Returns the number of steps between reports of the run to resume; `None` of a new one."""
    stored = read() if FLAGS.resume else None
    return stored and stored.get("report_every")


def with_changes(entry):
    """Returns the entry with the arguments of `--set`, or with those of the run to resume."""
    if FLAGS.resume and not FLAGS.set and (stored := read()) and stored["model"] == entry.name:
        return dataclasses.replace(entry, arguments=stored["arguments"])
    arguments = changed(entry.arguments, FLAGS.set, "--set")
    limits.check_arguments(entry, {k: v for k, v in arguments.items() if v != entry.arguments[k]})
    return dataclasses.replace(entry, arguments=arguments)


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
    stored = read() if FLAGS.resume else None
    return dataclasses.replace(entry.recipe, **stored["recipe"]) if stored else entry.recipe


def check(model, num_examples):
    """Refuses a folder that holds something else than the run to make or to resume.

    Args:
      model: the `zoo.Model` of the run.
      num_examples: size of its training data.

    Raises:
      ValueError: if the folder is not empty, or there is no run to resume, or it is one of another
        model or seed, or of data of another size.
    """
    workdir = files.local(FLAGS.workdir)
    if not FLAGS.resume:
        # Of a run that was killed before its first step there is nothing to lose.
        if workdir.exists() and any(p.name != LOCK for p in workdir.iterdir()):
            raise ValueError(
                "`--workdir` is not empty: give --resume to go on with its run, or another "
                f"folder. Received: --workdir={workdir}."
            )
        return
    before = read()
    if before is None:
        raise ValueError(
            f"There is no run to resume: {workdir / settings.CONFIG} does not exist. "
            f"Received: --workdir={workdir}, --resume."
        )
    config = json.loads(json.dumps(_identity(model)))
    for key in config:
        if before[key] != config[key]:
            raise ValueError(
                f"`--workdir` holds the run of another model: its {key} is "
                f"{before[key]!r}. Received: {config[key]!r}."
            )
    if before.get("num_examples", num_examples) != num_examples:
        raise ValueError(
            "The training data have changed since the run was begun: they must be "
            f"{before['num_examples']} events, else the steps to come would not see what those of "
            f"an unbroken run see. Received: {num_examples} events. Put the data back, or begin a "
            "new run in another folder; nothing was changed in this one."
        )


def _identity(model):
    return {"model": model.name, "arguments": dict(model.arguments), "seed": FLAGS.seed}


def write(model, recipe, num_examples, shards, interval, loop):
    """Writes the configuration of the run.

    Args:
      model: the `zoo.Model` of the run.
      recipe: its `zoo.Recipe`.
      num_examples: size of its training data.
      shards: parts of a batch that a step evaluates side by side.
      interval: steps between two reports.
      loop: whether layers that repeat are a loop.
    """
    files.write_json(
        files.local(FLAGS.workdir) / settings.CONFIG,
        {
            **_identity(model),
            "recipe": dataclasses.asdict(recipe),
            "flags": {"shards": shards, **{name: getattr(FLAGS, name) for name in REMEMBERED}},
            "report_every": interval,
            "num_examples": num_examples,
            "jit": settings.use_jit(model.event_shape),
            "loop": loop,
            "command": shlex.join(["python", "-m", "trainers.train", *sys.argv[1:]]),
            "versions": settings.versions(),
        },
    )


@contextlib.contextmanager
def held(model, num_examples):
    """Makes the folder of the run, and holds it for this process until it ends, however it ends.

    Args:
      model: the `zoo.Model` of the run.
      num_examples: size of its training data.

    Yields:
      The path of the folder.

    Raises:
      ValueError: if another process holds it; and see `check`.
    """
    workdir = files.local(FLAGS.workdir)
    check(model, num_examples)
    with contextlib.ExitStack() as stack:
        with _explained(workdir):
            workdir.mkdir(parents=True, exist_ok=True)
            file = stack.enter_context(open(workdir / LOCK, "a+"))
        _lock(file, workdir)
        check(model, num_examples)  # Another run may have come and gone.
        stack.enter_context(_explained(workdir))
        yield workdir


def _lock(file, workdir):
    """Takes the lock, which the system gives back with the death of the process."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.seek(0)
        raise ValueError(
            f"`--workdir` is in use by another run, {file.read(200).strip()}. Wait for it, end it, "
            f"or take another folder. Received: --workdir={workdir}."
        ) from None
    except OSError as error:  # A file system without locks.
        logging.warning("No lock: a second run in %s would spoil this one. %s", workdir, error)
    file.truncate(0)
    file.write(f"process {os.getpid()} on {platform.node()}\n")
    file.flush()


@contextlib.contextmanager
def _explained(workdir):
    """Adds to an error what is lost and how to go on."""
    try:
        yield
    except BaseException as error:
        number = error.errno if isinstance(error, OSError) else None
        if number in _FULL:
            error.add_note(f"There is no more room for {workdir}: make some.")
        elif number in _READ_ONLY:
            error.add_note(f"{workdir} can't be written: make it writable, or take another folder.")
        command = f"python -m trainers.train --workdir={shlex.quote(str(workdir))} --resume"
        kept = backup.paths(workdir / "backup")
        if kept:
            when = "" if isinstance(error, KeyboardInterrupt) else ", when the cause is mended"
            error.add_note(
                f"Nothing is lost up to step {backup.step_of(kept[0])}, of which there is a "
                f"backup. To go on{when}: {command}"
            )
        elif isinstance(error, KeyboardInterrupt) and (workdir / settings.CONFIG).is_file():
            error.add_note(f"There is no backup yet. To begin again: {command}")
        raise
