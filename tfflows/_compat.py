"""A readable error at import for combinations of packages that are known not to work.

TFP imports tf_keras, environment variables choose between two versions of Keras and four backends,
and each TFP fits a few releases of TensorFlow: what goes wrong shows up far from its cause. Reading
the metadata of the installed packages takes milliseconds and imports none of them.
"""

import importlib.util
import json
import os
import pathlib
import re
import sys
from importlib import metadata

# What the pip command in a message asks for, as in requirements/core.txt; a test compares the two.
_REQUIREMENTS = {
    "tensorflow": ">=2.21,<2.22",
    "tensorflow-probability": ">=0.25,<0.26",
    "tf-keras": ">=2.21,<2.22",
    "keras": ">=3.15,<3.16",
}

# Releases before these are known not to work. (Newer ones than were tested may well work.)
_OLDEST = {"tensorflow": (2, 21), "tensorflow-probability": (0, 25), "keras": (3, 0)}

# Distributions under another name that install the same module.
_VARIANTS = {
    "tensorflow": ("tensorflow-cpu", "tf-nightly", "tf-nightly-cpu"),
    "tensorflow-probability": ("tfp-nightly",),
    "tf-keras": ("tf-keras-nightly",),
    "keras": ("keras-nightly",),
}


def check_versions() -> None:
    """Raises if the installed packages or the environment cannot run tfflows.

    Call it before anything imports tensorflow, keras or tensorflow_probability.

    Raises:
        ImportError: Says of every problem what was found and what is needed, and which pip command
            installs it.
    """
    problems = _environment_problems()
    versions = {package: _installed_version(package) for package in _REQUIREMENTS}
    broken = {package: problem for package in versions if (problem := _problem(package, versions))}
    problems += broken.values()
    if broken:
        specs = " ".join(f'"{package}{_REQUIREMENTS[package]}"' for package in broken)
        problems.append(f"To install what is needed: python -m pip install {specs}")
    if problems:
        raise ImportError("tfflows cannot run here.\n- " + "\n- ".join(problems))


def _environment_problems() -> list[str]:
    problems = []
    # TensorFlow's own test for this variable.
    if (legacy := os.environ.get("TF_USE_LEGACY_KERAS")) in ("true", "True", "1"):
        problems.append(
            "tfflows needs Keras 3, and TF_USE_LEGACY_KERAS makes tf.keras Keras 2. Unset it. "
            f"Received: TF_USE_LEGACY_KERAS={legacy}."
        )
    if not _has_distutils():
        version = ".".join(map(str, sys.version_info[:2]))
        problems.append(
            "TensorFlow Probability imports distutils, which Python 3.12 has from setuptools. "
            "Unset SETUPTOOLS_USE_DISTUTILS, and run: python -m pip install setuptools. "
            f"Received: no distutils in Python {version}."
        )
    backend, source = _keras_backend()
    if backend != "tensorflow":
        problems.append(
            "tfflows needs the TensorFlow backend of Keras. Set KERAS_BACKEND=tensorflow. "
            f"Received: {backend!r} from {source}."
        )
    return problems


def _has_distutils() -> bool:
    """Whether `import distutils` works, after `import setuptools` where it did not before.

    The .pth file of setuptools makes it work, unless it stands in a folder in which .pth files are
    not read: one of PYTHONPATH, of `pip install --target` or of Bazel.
    """
    if importlib.util.find_spec("distutils"):
        return True
    try:
        importlib.import_module("setuptools")
    except ImportError:
        return False
    return importlib.util.find_spec("distutils") is not None


def _keras_backend() -> tuple[str, str]:
    """The backend Keras is going to choose, and what says so, in Keras' own order."""
    if backend := os.environ.get("KERAS_BACKEND"):
        return backend, "KERAS_BACKEND"
    home = pathlib.Path(os.environ.get("KERAS_HOME") or pathlib.Path("~/.keras").expanduser())
    try:
        return json.loads((home / "keras.json").read_text())["backend"], str(home / "keras.json")
    except (OSError, ValueError, KeyError, TypeError):  # Keras ignores a file that it cannot read
        return "tensorflow", "default"


def _installed_version(package: str) -> str | None:
    for name in (package, *_VARIANTS[package]):
        try:
            return metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return None


def _problem(package: str, versions: dict[str, str | None]) -> str | None:
    """Says what is wrong with the installed version of a package; None if nothing is."""
    version = versions[package]
    needed = f"Needed: {package}{_REQUIREMENTS[package]}"
    if version is None:
        why = ", which TensorFlow Probability imports" if package == "tf-keras" else ""
        return f"{package} is not installed{why}. {needed}."
    if package in _OLDEST and _release(version) < _OLDEST[package]:
        return f"{package} {version} is installed, which is too old. {needed}."
    tensorflow = versions["tensorflow"]
    if package == "tf-keras" and tensorflow and _release(version) != _release(tensorflow):
        return (
            f"tf-keras {version} is installed, which does not fit tensorflow {tensorflow}: "
            f"their minor versions have to agree. {needed}."
        )
    return None


def _release(version: str) -> tuple[int, ...]:
    """Major and minor number of a version: "2.21.0rc1" -> (2, 21)."""
    return tuple(int(number) for number in re.findall(r"\d+", version)[:2])
