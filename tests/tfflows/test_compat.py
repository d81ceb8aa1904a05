"""tfflows._compat: each known-bad combination gives an ImportError that says what to do."""

import pathlib
import re
import subprocess
import sys
from importlib import metadata

import pytest

from tfflows import _compat

ROOT = pathlib.Path(__file__).parents[2]
GOOD = {
    "tensorflow": "2.21.0",
    "tensorflow-probability": "0.25.0",
    "tf-keras": "2.21.0",
    "keras": "3.15.1",
}


@pytest.fixture
def installed(monkeypatch, tmp_path):
    """The packages that importlib.metadata reports, as a dict that a test changes."""
    packages = dict(GOOD)

    def version(name):
        if name not in packages:
            raise metadata.PackageNotFoundError(name)
        return packages[name]

    monkeypatch.setattr(metadata, "version", version)
    monkeypatch.delenv("TF_USE_LEGACY_KERAS", raising=False)
    monkeypatch.delenv("KERAS_BACKEND", raising=False)
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    return packages


def test_tested_versions_pass(installed):
    _compat.check_versions()


@pytest.mark.parametrize("version", ["2.21.0rc1", "2.22.0", "3.0.0"])
def test_newer_tensorflow_passes_with_its_tf_keras(installed, version):
    installed.update({"tensorflow": version, "tf-keras": version})
    _compat.check_versions()


@pytest.mark.parametrize(
    "variant, package", [(v, p) for p, names in _compat._VARIANTS.items() for v in names]
)
def test_variants_of_a_package_count(installed, variant, package):
    installed[variant] = installed.pop(package)
    _compat.check_versions()


@pytest.mark.parametrize(
    "package, version, found",
    [
        ("tensorflow", "2.15.1", "tensorflow 2.15.1 is installed, which is too old"),
        ("tensorflow", None, "tensorflow is not installed"),
        ("tensorflow-probability", "0.24.0", "tensorflow-probability 0.24.0 is installed"),
        ("tensorflow-probability", None, "tensorflow-probability is not installed"),
        ("keras", "2.15.0", "keras 2.15.0 is installed, which is too old"),
        ("keras", None, "keras is not installed"),
        ("tf-keras", "2.19.0", "tf-keras 2.19.0 is installed, which does not fit"),
        ("tf-keras", None, "tf-keras is not installed, which TensorFlow Probability imports"),
    ],
)
def test_bad_package(installed, package, version, found):
    if version is None:
        del installed[package]
    else:
        installed[package] = version
        if package == "tensorflow":
            installed["tf-keras"] = version
    requirement = package + _compat._REQUIREMENTS[package]
    with pytest.raises(ImportError) as error:
        _compat.check_versions()
    assert found in str(error.value)
    assert f"Needed: {requirement}" in str(error.value)
    assert f'python -m pip install "{requirement}"' in str(error.value)


def test_every_problem_is_reported_at_once(installed):
    installed.clear()
    with pytest.raises(ImportError) as error:
        _compat.check_versions()
    for package, bounds in _compat._REQUIREMENTS.items():
        assert f"{package} is not installed" in str(error.value)
        assert f'"{package}{bounds}"' in str(error.value)


@pytest.mark.parametrize("value", ["1", "true", "True"])
def test_legacy_keras(installed, monkeypatch, value):
    monkeypatch.setenv("TF_USE_LEGACY_KERAS", value)
    with pytest.raises(ImportError, match=f"Unset it. Received: TF_USE_LEGACY_KERAS={value}"):
        _compat.check_versions()


def test_legacy_keras_off(installed, monkeypatch):
    monkeypatch.setenv("TF_USE_LEGACY_KERAS", "0")
    _compat.check_versions()


@pytest.mark.parametrize("has_setuptools", [False, True])
def test_distutils_comes_from_setuptools(installed, monkeypatch, has_setuptools):
    # As Python 3.12 is without the .pth file of setuptools.
    found = [None]
    monkeypatch.setattr(_compat.importlib.util, "find_spec", lambda name: found[0])

    def import_module(name):
        if not has_setuptools:
            raise ImportError(name)
        found[0] = "a spec"

    monkeypatch.setattr(_compat.importlib, "import_module", import_module)
    if has_setuptools:
        _compat.check_versions()
    else:
        with pytest.raises(ImportError, match=r"pip install setuptools\. Received: no distutils"):
            _compat.check_versions()


def test_other_backend(installed, monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    with pytest.raises(ImportError, match=r"KERAS_BACKEND=tensorflow.*'jax' from KERAS_BACKEND"):
        _compat.check_versions()


def test_other_backend_in_keras_json(installed, monkeypatch, tmp_path):
    (tmp_path / "keras.json").write_text('{"backend": "torch"}')
    with pytest.raises(ImportError, match=r"'torch' from .*keras\.json"):
        _compat.check_versions()
    monkeypatch.setenv("KERAS_BACKEND", "tensorflow")  # which goes first
    _compat.check_versions()


def test_unreadable_keras_json_is_ignored(installed, tmp_path):
    (tmp_path / "keras.json").write_text("{")
    _compat.check_versions()


def test_bounds_are_those_of_the_requirements():
    lines = (ROOT / "requirements/core.txt").read_text().splitlines()
    bounds = dict(re.fullmatch(r"([\w-]+)(.*)", line).groups() for line in lines if line[0] != "#")
    assert {name: bounds[name] for name in _compat._REQUIREMENTS} == _compat._REQUIREMENTS


def test_oldest_versions_are_in_the_bounds():
    for package, oldest in _compat._OLDEST.items():
        assert oldest <= _compat._release(_compat._REQUIREMENTS[package])


def test_import_tfflows_checks_before_it_imports_anything_else():
    code = "import os; os.environ['KERAS_BACKEND'] = 'jax'; import tfflows"
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 1
    assert "ImportError: tfflows cannot run here" in run.stderr
    assert "tensorflow_probability" not in run.stderr
