"""Runs that tests of several programs look at."""

import contextlib

import pytest

import zoo
from tests.trainers.tiny_runs import RECIPE, TINY, run, run_and_copy
from zoo import registry
from zoo.architectures import glow


@contextlib.contextmanager
def registered():
    """Registers models that train in a moment, unless they are."""
    names = {"tiny.digits", "tiny.other"} - registry._MODELS.keys()
    for name in names:
        zoo.register(
            name,
            glow.glow,
            kind=zoo.IMAGES,
            recipe=RECIPE,
            summary="A test.",
            paper="None.",
            **TINY,
        )
    yield
    for name in names:
        registry._MODELS.pop(name)


@pytest.fixture(scope="module")
def tiny():
    """A model that trains in a moment."""
    with registered():
        yield


@pytest.fixture(scope="session")
def finished(tmp_path_factory):
    """The folder of a run of four steps; what writes into its preset takes a copy."""
    workdir = tmp_path_factory.mktemp("run") / "digits"
    with registered():
        run_and_copy(workdir, model="tiny.digits", report_every=2)
    return workdir


@pytest.fixture(scope="session")
def points(tmp_path_factory):
    """The folder of a run on points."""
    workdir = tmp_path_factory.mktemp("points") / "rings"
    changes = ["num_blocks=2", "width=4"]
    run(model="realnvp.rings", workdir=str(workdir), set=changes, steps=4, report_every=2)
    return workdir
