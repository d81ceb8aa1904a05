"""The programs as the commands of an installed tfflows: `tfflows-train` is `trainers.train`."""

import functools
import runpy

from trainers import program


def _run(name):
    """Does what `python -m trainers.name` does, but that help names commands."""
    program.start()
    known = {"is_command": True}
    runpy.run_module(f"trainers.{name}", known, run_name="__main__", alter_sys=True)


benchmark = functools.partial(_run, "benchmark")
deform = functools.partial(_run, "deform")
evaluate = functools.partial(_run, "evaluate")
export = functools.partial(_run, "export")
reproduce = functools.partial(_run, "reproduce")
sample = functools.partial(_run, "sample")
score = functools.partial(_run, "score")
train = functools.partial(_run, "train")
