"""Keeps what TensorFlow's libraries always say while they are loaded out of standard error.

These lines can't be turned off: they are written by static initialisers, before TensorFlow reads
`TF_CPP_MIN_LOG_LEVEL`, and the one about CUDA is an error on every machine without a GPU. So `sed`
reads standard error for as long as they may come, in a process of its own: what else is written
there, a library's last words before a crash too, passes through it at once.
"""

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator


def import_tensorflow() -> None:
    """Imports TensorFlow without the usual lines."""
    if "tensorflow" not in sys.modules:
        with drop_usual_lines():
            import tensorflow  # noqa: F401


@contextlib.contextmanager
def drop_usual_lines() -> Iterator[None]:
    """Drops the usual lines of a start from standard error; `TF_CPP_MIN_LOG_LEVEL=0` keeps them."""
    if os.environ.get("TF_CPP_MIN_LOG_LEVEL") == "0":
        yield
        return
    try:
        original = os.dup(2)
        command = ["sed", "-u", "-E", *(f"-e/{line}/d" for line in _usual_lines())]
        # A session of its own: Ctrl-C is not for it.
        sed = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=original, start_new_session=True
        )
    except OSError:  # No standard error, or no sed.
        yield
        return
    assert sed.stdin is not None  # A pipe, as asked for.
    os.dup2(sed.stdin.fileno(), 2)
    sed.stdin.close()
    try:
        yield
    finally:
        if sys.stderr is not None:
            sys.stderr.flush()
        os.dup2(original, 2)
        os.close(original)
        with contextlib.suppress(subprocess.TimeoutExpired):  # Another process has its input, too.
            sed.wait(1)


def _usual_lines() -> Iterator[str]:
    yield r"^WARNING: All log messages before absl::InitializeLog\(\) is called"
    yield r"^I[0-9]{4} [0-9:.]+ +[0-9]+ [^ ]+\.cc:[0-9]+\] "  # Of level INFO: oneDNN, CPU features.
    yield r"^To enable the following instructions: "  # The second line of the latter.
    if not os.path.exists("/proc/driver/nvidia"):
        yield r"^E[0-9]{4} .* failed call to cuInit: .*UNKNOWN ERROR \(303\)"  # No libcuda.
    if os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1"):
        yield r"^E[0-9]{4} .* failed call to cuInit: .*CUDA_ERROR_NO_DEVICE"
