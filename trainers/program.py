"""What all programs have in common: how they start, and what they say when they can't go on.

A user's mistake is one message and exit status 1; `--traceback` shows where in the code it is from.
Errors of our own keep their traceback. Ctrl-C says how to go on, with exit status 130.
"""

import functools
import importlib.util
import itertools
import math
import os
import re
import subprocess
import sys
import types
from collections.abc import Callable, Sequence
from typing import Any

from absl import app, flags, logging

FLAGS = flags.FLAGS
INTERRUPTED = 130  # As a shell says it of a program that Ctrl-C ended.
# What these raise by themselves tells of our code and not of what the user gave.
FRAMEWORKS = ("tensorflow", "tensorflow_probability", "tf_keras", "keras")
OURS = ("__main__", "tfflows", "zoo", "trainers", "benchmarks")
# What TensorFlow makes of an error in a function that it traces: paths and lines, without its own.
_IN_GRAPH = re.compile(
    r'in user code:.*File "(?P<path>[^"]*)"[^\n]*\n +(?P<line>[^\n]*).*?\n\n    \w+: (?P<text>.*)',
    re.DOTALL,
)
# Modules of the packages in requirements/train.txt, which `pip install tfflows` leaves out.
NEEDED = (
    *("PIL", "importlib_resources", "matplotlib", "pyarrow", "sklearn", "tensorboard"),
    "tensorflow_datasets",
)
_COMMAND = re.compile(r"python -m trainers\.(\w+)")
YES, NO = ("true", "t", "yes", "y", "on", "1"), ("false", "f", "no", "n", "off", "0")

flags.DEFINE_bool("traceback", False, "Show where in the code an error comes from.")


def start() -> None:
    """Imports TensorFlow and looks for GPUs, without what it says in every healthy start.

    Ends the process if packages are missing that programs need.
    """
    sys.excepthook = _end
    if missing := [name for name in NEEDED if importlib.util.find_spec(name) is None]:
        print(
            'Error: the programs need what `python -m pip install "tfflows[train]"` installs; in a '
            f"clone, `tools/setup`. Received: no {', '.join(missing)}.",
            file=sys.stderr,
        )
        sys.exit(1)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "1")  # Warnings and errors.
    sys.stdout.reconfigure(errors="backslashreplace")  # Names of files may be no Unicode.
    from tfflows import start_up  # Says so if TensorFlow can't work.

    with start_up.drop_usual_lines():
        import tensorflow as tf

        tf.config.list_physical_devices("GPU")  # Once for all: if there is none, it complains.


def run(main: Callable, shared_flags: Sequence[str] = ()) -> None:
    """Runs the program of this process.

    Args:
      main: a function of the words after the name of the program, of which there are none.
      shared_flags: names of the flags of other modules that it uses, for --help.
    """
    for name in ("traceback", *shared_flags):
        FLAGS.register_key_flag_for_module(sys.argv[0], FLAGS[name])
    this = sys.modules["__main__"]
    if hasattr(this, "is_command"):  # See `commands`.
        name_commands(this)
    app.run(functools.partial(_run, main))


def name_commands(module: types.ModuleType) -> None:
    """Names the commands of an installed tfflows in the help of a module and of all flags."""
    module.__doc__ = _COMMAND.sub(r"tfflows-\1", module.__doc__)
    for name in FLAGS:
        FLAGS[name].help = _COMMAND.sub(r"tfflows-\1", FLAGS[name].help)


def _run(main, argv):
    import keras
    import tensorflow as tf

    # Where an error is from can only be told from all of its traceback.
    keras.config.disable_traceback_filtering()
    tf.debugging.disable_traceback_filtering()

    if not FLAGS["verbosity"].present:  # absl shows what is said for information, too.
        logging.set_verbosity(logging.WARNING)
        tf.get_logger().setLevel("WARNING")

    def run_with_flags_alone():
        refuse_words(sys.argv[1:], argv[1:])
        refuse_numbers()
        return main(argv)

    return guard(run_with_flags_alone)


def guard(main: Callable) -> Any:
    """Calls a function; what the user should know of its errors is all that is said of them."""
    try:
        return main()
    except (Exception, KeyboardInterrupt) as error:
        shown = "--traceback" in sys.argv or (FLAGS.is_parsed() and FLAGS.traceback)
        if shown or not (text := message(error)):
            raise
        sys.stdout.flush()
        if isinstance(error, KeyboardInterrupt):
            print(f"\n{text}", file=sys.stderr)
            sys.exit(INTERRUPTED)
        print(f"Error: {text}", file=sys.stderr)
        sys.exit(1)


def refuse_words(arguments: Sequence[str], words: Sequence[str]) -> None:
    """Raises if there are words that are no flags, which absl passes on.

    Args:
      arguments: those of the program.
      words: what absl left over of them.

    Raises:
      app.UsageError: says how it should be written.
    """
    if not words:
        return
    word = words[0]
    pairs = itertools.pairwise(["", *arguments])
    before = next((a for a, b in pairs if b == word and not _takes_value(a)), "")
    received = f"Received: {f'{before} {word}'.strip()}."
    if name := _switch(before):
        if word.lower() in YES and before.endswith(f"-{name}"):
            how = f"takes its value after an equals sign: --{name}=true, or --{name}"
        elif word.lower() in NO and before.endswith(f"-{name}"):
            how = f"takes its value after an equals sign: --{name}=false, or --no{name}"
        else:
            how = f"is all or nothing: --{name} or --no{name}"
        raise app.UsageError(f"A switch {how}. {received}")
    if word.partition("=")[0] in FLAGS and "=" in word:
        raise app.UsageError(f"A flag begins with two hyphens: --{word}. {received}")
    raise app.UsageError(
        "There must be nothing but flags, --name=value. Put a value that has spaces in quotes, and "
        f"commas between the parts of a list. {received}"
    )


def refuse_numbers() -> None:
    """Raises if a flag is NaN, which is within any bounds to absl, or infinite."""
    for name in FLAGS:
        value = FLAGS[name].value
        if FLAGS[name].present and isinstance(value, float) and not math.isfinite(value):
            raise app.UsageError(f"--{name} must be a finite number. Received: --{name}={value}.")


def _takes_value(argument):
    """Whether a flag's value is the next argument."""
    name = argument.lstrip("-")
    return argument.startswith("-") and name in FLAGS and not FLAGS[name].boolean


def _switch(argument):
    """Returns the name of the boolean flag that an argument sets, without a value; or `None`."""
    if not argument.startswith("-"):
        return None
    name = argument.lstrip("-")
    names = (name, name.removeprefix("no"))
    return next((n for n in names if n in FLAGS and FLAGS[n].boolean), None)


def message(error: BaseException) -> str | None:
    """Returns what to tell the user of an error; `None` if it is one of ours."""
    notes = getattr(error, "__notes__", [])
    if isinstance(error, KeyboardInterrupt):
        return "\n".join(["Interrupted.", *notes])
    if not _is_mistake(error):
        return None
    text = str(error) or type(error).__name__
    if match := _IN_GRAPH.match(text):
        text = match["text"].strip().replace("\n    ", "\n")
    elif _origin(error) not in OURS and not isinstance(error, app.UsageError):
        text = f"{type(error).__name__}: {text}"
    return "\n".join([text, *notes])


def _is_mistake(error):
    """Whether an error tells of what the user gave, or of the machine, and not of our code."""
    known = (app.UsageError, OSError, MemoryError, subprocess.CalledProcessError)
    if isinstance(error, (*known, *_errors_of_tensorflow())):
        return True
    origin = _origin(error)
    if isinstance(error, ValueError):
        return origin not in FRAMEWORKS
    # What Python raises by itself is of these classes' subclasses.
    deliberate = (RuntimeError, NotImplementedError, ArithmeticError)
    return origin in OURS and type(error) in deliberate


def _errors_of_tensorflow():
    """Returns classes of errors that tell of numbers, memory and files; none without TensorFlow."""
    if "tfflows" not in sys.modules:
        return ()
    import tensorflow as tf

    from tfflows.training import NonFiniteError

    errors = tf.errors
    of_files = (errors.NotFoundError, errors.PermissionDeniedError)
    return (NonFiniteError, errors.ResourceExhaustedError, *of_files)


def _origin(error):
    """Returns the name of the package whose code raised an error."""
    if match := _IN_GRAPH.match(str(error)):
        if package := re.search(r"/(?:site|dist)-packages/(\w+)", match["path"]):
            return package[1]
        return OURS[0] if match["line"].startswith("raise") else FRAMEWORKS[0]
    traceback, frame = error.__traceback__, None
    while traceback:
        frame, traceback = traceback.tb_frame, traceback.tb_next
    return frame.f_globals.get("__name__", "").partition(".")[0] if frame else ""


def _end(kind, error, traceback):
    """Is Python's hook for errors that end it: before the program runs, and those of our own."""
    if issubclass(kind, KeyboardInterrupt):
        print("\nInterrupted.", file=sys.stderr, flush=True)
        os._exit(INTERRUPTED)
    if issubclass(kind, ImportError) and str(error).startswith("tfflows cannot run here"):
        print(f"Error: {error}", file=sys.stderr)
    else:
        sys.__excepthook__(kind, error, traceback)
