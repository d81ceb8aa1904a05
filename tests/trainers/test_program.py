"""What all programs have in common: flags, messages, Ctrl-C, and a quiet standard error."""

import ast
import functools
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import time
import tomllib
import types

import keras
import pytest
import tensorflow as tf
from absl import app, flags, logging
from absl.testing import flagsaver

from tfflows.training import NonFiniteError
from trainers import (
    benchmark,
    commands,
    deform,
    evaluate,
    export,
    program,
    reproduce,
    sample,
    score,
    train,
)

ROOT = pathlib.Path(__file__).parents[2]
PROGRAMS = [benchmark, deform, evaluate, export, reproduce, sample, score, train]
# Flags that a program uses by functions of these.
DEVICES = {"strategy", "cpu_devices", "precision"}
USED_BY = {
    "command_line.open_model": {"model", "workdir", *DEVICES},
    "command_line.read_devices": DEVICES,
    "command_line.read_entry": {"set"},
    "command_line.read_output": {"output"},
    "command_line.read_recipe": {"recipe", "batch_size", "ema"},
    "command_line.read_run": {
        *("model", "workdir", "set", "recipe", "memory", "seed", "jit", "loop", "shards"),
        *DEVICES,
    },
}


def start(*arguments, **environment):
    """Returns the process of a program, with the environment of a user."""
    variables = {k: v for k, v in os.environ.items() if k != "TF_CPP_MIN_LOG_LEVEL"} | environment
    return subprocess.Popen(
        [sys.executable, *arguments],
        cwd=ROOT,
        env=variables,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        # A shell that runs the tests in the background has it ignored.
        preexec_fn=functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
    )


def finish(process):
    """Returns exit status and standard error of a process."""
    try:
        _, err = process.communicate(timeout=200)
    finally:
        process.kill()
    return process.returncode, err


# Flags.


@pytest.mark.parametrize("module", PROGRAMS, ids=lambda m: m.__name__.rpartition(".")[2])
def test_help_has_the_flags_that_the_program_uses(module):
    tree = ast.parse(pathlib.Path(module.__file__).read_text())
    nodes = [node for node in ast.walk(tree) if isinstance(node, ast.Attribute)]
    names = {node.attr for node in nodes if ast.unparse(node.value) == "FLAGS"} & set(flags.FLAGS)
    for node in nodes:
        names |= USED_BY.get(ast.unparse(node), set())
    own = {flag.name for flag in flags.FLAGS.flags_by_module_dict().get(module.__name__, [])}
    assert names <= own | set(module.SHARED_FLAGS)
    assert set(module.SHARED_FLAGS) <= set(flags.FLAGS)
    imports = [node for node in tree.body if isinstance(node, ast.ImportFrom)]
    assert "command_line" in {alias.name for node in imports for alias in node.names}  # Has them.


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ("--check_finite False", "--check_finite=false, or --nocheck_finite. Received: --check_f"),
        ("--model=x --check_finite False --steps=4", "--check_finite=false, or --nocheck_finite"),
        ("--resume False", "--resume=false, or --noresume. Received: --resume False."),
        ("-resume no", "--resume=false, or --noresume. Received: -resume no."),
        ("--resume TRUE", "--resume=true, or --resume. Received: --resume TRUE."),
        ("--volume 0", "--volume=false, or --novolume. Received: --volume 0."),
        ("--noresume False", "all or nothing: --resume or --noresume. Received: --noresume False."),
        ("--resume runs/x", "all or nothing: --resume or --noresume. Received: --resume runs/x."),
        ("--model False --resume False", "--resume=false, or --noresume. Received: --resume F"),
        ("steps=4", "begins with two hyphens: --steps=4. Received: steps=4."),
        ("--dataset folder:/my photos", "in quotes.*Received: folder:/my photos."),
        ("--keep_levels 0 1", "commas between the parts of a list. Received: 0 1."),
        ("digits", "nothing but flags, --name=value.*Received: digits."),
        ("--model=x -- False", "nothing but flags, --name=value.*Received: -- False."),
    ],
)
def test_words_that_are_no_flags_are_refused(arguments, expected):
    arguments = arguments.split()
    with flagsaver.flagsaver():
        words = flags.FLAGS(["program", *arguments])[1:]
    with pytest.raises(app.UsageError, match=expected):
        program.refuse_words(arguments, words)


def test_values_of_flags_are_no_words():
    with flagsaver.flagsaver():
        arguments = ["--model", "False", "--resume", "--noresume", "--volume=false", "--steps", "4"]
        program.refuse_words(arguments, flags.FLAGS(["program", *arguments])[1:])
    program.refuse_words([], [])


@pytest.mark.parametrize("value", ["nan", "inf"])
@pytest.mark.parametrize("name", ["transport_cost", "weight_l2", "spectral_cap", "temperature"])
def test_flags_are_finite_numbers(name, value):
    with flagsaver.flagsaver():
        flags.FLAGS(["program", f"--{name}={value}"])
        with pytest.raises(app.UsageError, match=rf"--{name} must be .*Received: --{name}={value}"):
            program.refuse_numbers()


def test_programs_do_not_show_what_is_for_information(caplog):
    levels = logging.get_verbosity(), tf.get_logger().level
    try:
        logging.set_verbosity(logging.INFO)
        program._run(lambda argv: logging.info("said for information"), ["program"])
        assert not caplog.records
        assert not tf.get_logger().isEnabledFor(20)
        assert tf.get_logger().isEnabledFor(30)
    finally:
        logging.set_verbosity(levels[0])
        tf.get_logger().setLevel(levels[1])


# Commands and packages of an installed tfflows.


def test_every_program_is_a_command():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    names = [module.__name__.rpartition(".")[2] for module in PROGRAMS]
    assert project["scripts"] == {f"tfflows-{n}": f"trainers.commands:{n}" for n in names}


def test_a_command_is_the_program_but_for_the_name_in_its_help(monkeypatch):
    called = []
    monkeypatch.setattr(program, "start", lambda: called.append("start"))
    monkeypatch.setattr(commands.runpy, "run_module", lambda *a, **k: called.append((a, k)))
    commands.score()
    main = {"run_name": "__main__", "alter_sys": True}
    assert called == ["start", (("trainers.score", {"is_command": True}), main)]

    module = types.ModuleType("named")
    module.__doc__ = "Trains.\n\n    python -m trainers.train --resume\n"
    texts = {name: flags.FLAGS[name].help for name in flags.FLAGS}
    try:
        program.name_commands(module)
        assert module.__doc__ == "Trains.\n\n    tfflows-train --resume\n"
        assert "`tfflows-train --list`" in flags.FLAGS["model"].help
        assert "python -m trainers" not in "".join(flags.FLAGS[name].help for name in texts)
    finally:
        for name, text in texts.items():
            flags.FLAGS[name].help = text


def test_programs_say_in_a_line_which_packages_are_missing(monkeypatch, capsys):
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(SystemExit) as caught:
        program.start()
    assert caught.value.code == 1
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1
    assert 'pip install "tfflows[train]"' in err and err.endswith("Received: no matplotlib.\n")


def test_needed_packages_are_those_of_the_requirements():
    lines = (ROOT / "requirements/train.txt").read_text().splitlines()
    named = {re.split("[<>=]", line)[0].replace("-", "_") for line in lines if line[0] != "#"}
    other = {"PIL": "pillow", "sklearn": "scikit_learn"}
    assert {other.get(name, name) for name in program.NEEDED} == named


# What is said of errors.


def raised(function, *arguments):
    with pytest.raises(BaseException) as caught:
        function(*arguments)
    return caught.value


def fail(error):
    """Stands for code of ours: this file is run as if it were."""
    raise error


@pytest.fixture
def ours(monkeypatch):
    monkeypatch.setattr(program, "OURS", (*program.OURS, __name__.partition(".")[0]))


def test_mistakes_are_messages(ours, tmp_path):
    assert program.message(raised(fail, app.UsageError("--x must be given."))) == (
        "--x must be given."
    )
    assert program.message(raised(fail, ValueError("`x` must be 1."))) == "`x` must be 1."
    assert program.message(raised(fail, NonFiniteError("In step 3: NaN."))) == "In step 3: NaN."
    assert program.message(raised(fail, RuntimeError("The run failed."))) == "The run failed."
    assert program.message(raised(int, "a")).startswith("invalid literal for int()")
    missing = program.message(raised((tmp_path / "none").read_text))
    assert missing.startswith("FileNotFoundError: ") and str(tmp_path) in missing
    assert "JSONDecodeError: " in program.message(raised(json.loads, "{"))
    missing = program.message(raised(tf.io.read_file, str(tmp_path / "none")))
    assert missing.startswith("NotFoundError: ") and str(tmp_path) in missing


def test_notes_of_an_error_are_in_its_message(ours):
    error = ValueError("It failed.")
    error.add_note("Nothing is lost.")
    assert program.message(raised(fail, error)) == "It failed.\nNothing is lost."
    stop = KeyboardInterrupt()
    stop.add_note("To go on: this.")
    assert program.message(raised(fail, stop)) == "Interrupted.\nTo go on: this."


def test_mistakes_in_graphs_are_messages_too(ours):
    @tf.function
    def graph(x):
        raise ValueError("`x` must be 1.\nReceived: 2.")

    assert program.message(raised(graph, 2)) == "`x` must be 1.\nReceived: 2."
    reshape = tf.function(lambda x: tf.reshape(x, [3]))
    assert program.message(raised(reshape, tf.zeros([2]))) is None


def test_errors_of_our_own_are_no_messages(ours):
    for error in (
        AttributeError("a"),
        KeyError("k"),
        TypeError("t"),
        RecursionError(),
        OverflowError(),
    ):
        assert program.message(raised(fail, error)) is None
    assert program.message(raised(lambda: 1 / 0)) is None
    # What TensorFlow and Keras refuse is what our code gave them.
    assert program.message(raised(keras.layers.Dense, -1)) is None


def run(main, *arguments):
    """Runs a function as a program; returns its exit status."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["program", *arguments])
        with pytest.raises(SystemExit) as caught:
            program._run(main, ["program", *arguments])
    return caught.value.code


def test_exit_status(ours, capsys):
    def mistake(argv):
        raise ValueError("`x` must be 1.")

    def interrupted(argv):
        raise KeyboardInterrupt

    def wrong(argv):
        raise AttributeError("x")

    assert run(mistake) == 1
    assert capsys.readouterr() == ("", "Error: `x` must be 1.\n")
    assert run(interrupted) == 130
    assert capsys.readouterr() == ("", "\nInterrupted.\n")
    assert run(mistake, "word") == 1
    assert "nothing but flags" in capsys.readouterr().err
    with pytest.raises(AttributeError):
        program._run(wrong, ["program"])
    with flagsaver.flagsaver(traceback=True), pytest.raises(ValueError, match="must be 1"):
        program._run(mistake, ["program"])


# Programs as they are run.


def test_a_healthy_run_is_quiet_and_ctrl_c_says_how_to_go_on(tmp_path):
    flags_ = ["--model=glow.digits", "--set=steps=[1,1]", "--set=widths=[4,4]", "--batch_size=16"]
    flags_ += ["--steps=100000", "--report_every=5", "--num_validation=16"]
    process = start("-m", "trainers.train", *flags_, f"--workdir={tmp_path}")
    end = time.monotonic() + 250
    while not list(tmp_path.glob("backup/step_*")) and time.monotonic() < end:
        assert process.poll() is None, process.communicate()
        time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    status, err = finish(process)
    assert status == 130
    go_on = f"To go on: python -m trainers.train --workdir={tmp_path} --resume"
    said = rf"\nInterrupted\.\nNothing is lost up to step \d+, of which .* backup\. {go_on}\n"
    assert re.fullmatch(said, err), err


def test_warnings_are_not_quiet():
    """Python's, absl's, TensorFlow's; and of its libraries, while they are loaded and later."""
    code = """
import os, sys, warnings
sys.argv = ["-m"]
import trainers
import absl.logging, tensorflow as tf
warnings.warn("a warning of Python")
absl.logging.warning("a warning of absl")
tf.get_logger().warning("a warning of TensorFlow")
tf.data.Dataset.range(8).cache().take(1).get_single_element()
"""
    status, err = finish(start("-c", code, TF_ENABLE_ONEDNN_OPTS="maybe"))
    assert status == 0
    for expected in ("of Python", "of absl", "of TensorFlow", "ONEDNN_OPTS is not set to either"):
        assert expected in err
    assert "partially cached" in err  # `LOG(WARNING)`.
    assert "cuInit" not in err
    assert "rebuild TensorFlow" not in err


def test_packages_that_do_not_fit_are_one_message():
    status, err = finish(start("-m", "trainers.train", "--list", KERAS_BACKEND="jax"))
    assert status == 1
    assert err.startswith("Error: tfflows cannot run here.\n- ")
    assert "Traceback" not in err


@pytest.mark.parametrize(("level", "usual"), [(None, False), ("2", False), ("0", True)])
def test_only_the_usual_lines_of_a_start_are_dropped(level, usual):
    """Without TensorFlow, and up to a crash."""
    code = """
import importlib.util, os
spec = importlib.util.spec_from_file_location("start_up", "tfflows/start_up.py")
start_up = importlib.util.module_from_spec(spec)
spec.loader.exec_module(start_up)
with start_up.drop_usual_lines():
    os.write(2, b'''WARNING: All log messages before absl::InitializeLog() is called are written
I0000 00:00:1795763280.574211    5729 port.cc:153] oneDNN custom operations are on.
I0000 00:00:1795763280.623111    5729 cpu_feature_guard.cc:227] This TensorFlow binary
To enable the following instructions: AVX2, in other operations, rebuild TensorFlow.
W0000 00:00:1795763280.623111    5729 gpu_device.cc:1] Cannot dlopen some GPU libraries.
E0000 00:00:1795763280.623111    5729 cuda_platform.cc:52] failed call to cuInit: something else
F0000 00:00:1795763280.623111    5729 cpu_feature_guard.cc:1] AVX is not available.
Another line.
''')
    os.abort()
"""
    environment = {} if level is None else {"TF_CPP_MIN_LOG_LEVEL": level}
    status, err = finish(start("-c", code, **environment))
    assert status == -signal.SIGABRT
    assert [line[0] for line in err.splitlines()] == list("WIITWEFA" if usual else "WEFA")
