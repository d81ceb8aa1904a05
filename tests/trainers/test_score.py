"""Scores of data sets: the table, and runs that are killed anywhere and go on."""

import csv
import fcntl
import functools
import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import numpy as np
import pyarrow.parquet
import pytest
from absl import app
from absl.testing import flagsaver
from PIL import Image

import tfflows
import zoo
from tests.small_presets import save_small
from trainers import evaluate, score
from trainers.data import loading

ROOT = pathlib.Path(__file__).parents[2]


@pytest.fixture(scope="module", autouse=True)
def opened_once():
    """A preset is opened, and its scorer traced, once for all runs, which are of one process."""
    make, scorers = evaluate.make_scorer, {}

    def make_scorer(model, *args, **kwargs):
        key = (id(model), *args, *sorted(kwargs.items()))
        if key not in scorers:
            scorers[key] = make(model, *args, **kwargs)
        return scorers[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(zoo, "open_trained", functools.cache(zoo.open_trained))
        patch.setattr(evaluate, "make_scorer", make_scorer)
        yield


@pytest.fixture(scope="module")
def preset(tmp_path_factory):
    """The path of a small preset of images."""
    path = tmp_path_factory.mktemp("preset") / "tiny"
    return save_small(path, "glow.digits", steps=(1, 1), widths=(4, 4))


@pytest.fixture(scope="module")
def run(preset):
    """A function that runs the program with flags."""

    def run(output, **values):
        with flagsaver.flagsaver(**{"model": preset, "output": str(output), **values}):
            score.main(["binary"])

    return run


def rows_of(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def table(run, tmp_path_factory):
    """Scores of 50 test images in batches of 20, and the bytes of the journal at the end."""
    output = tmp_path_factory.mktemp("scores") / "scores.csv"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(score.table_files, "write", stop)
        with pytest.raises(KeyboardInterrupt):
            run(output, split="test[:50]", batch_size=20)
    journal = journal_of(output).read_bytes()
    run(output, split="test[:50]", batch_size=20)
    return output, journal


def stop(*args):
    raise KeyboardInterrupt


def journal_of(output):
    return output.with_name(f".{output.name}.partial")


def test_rows_are_the_scores_of_the_images_in_order(table, preset):
    rows = rows_of(table[0])
    assert [int(row["index"]) for row in rows] == list(range(50))
    model = zoo.open_trained(preset)
    images = loading.load("digits", "test[:50]", batch_size=20)
    expected = evaluate.score(model, images.dataset, 50, 1, 0)
    found = np.array([row["bits_per_dim"] for row in rows], np.float32)
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    log_prob = np.array([row["log_prob"] for row in rows], np.float32)
    bits = tfflows.analysis.bits_per_dim(log_prob, 64)
    np.testing.assert_allclose(bits, expected, rtol=1e-6)


def test_what_was_scored_is_said_beside_the_table(table):
    output, _ = table
    assert sorted(p.name for p in output.parent.iterdir()) == ["scores.csv", "scores.csv.json"]
    described = json.loads(output.with_name("scores.csv.json").read_text())
    assert described["job"]["model"] == "glow.digits"
    assert described["job"]["split"] == "test[:50]"
    assert "uniform dequantisation, 1 sample(s)" in described["definition"]
    mean = np.mean([float(row["bits_per_dim"]) for row in rows_of(output)])
    assert described["mean_bits_per_dim"] == pytest.approx(mean, rel=1e-6)


@pytest.mark.parametrize(
    "left",
    [0, 10, "header", "header+3", "one batch", "one batch+7", "all-1", "all"],
)
def test_a_killed_run_goes_on_wherever_its_journal_ends(run, table, left, tmp_path):
    output, journal = table
    header = journal.index(b"\n") + 1
    assert len(journal) == header + 50 * 4
    names = {"header": header, "one batch": header + 80, "all": len(journal)}
    names |= {"header+3": header + 3, "one batch+7": header + 87, "all-1": len(journal) - 1}
    again = tmp_path / "scores.csv"
    journal_of(again).write_bytes(journal[: names.get(left, left)])
    steps, done = [], evaluate.make_scorer

    def counting(*args):
        function = done(*args)
        return lambda x, step: (steps.append(int(step)), function(x, step))[1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evaluate, "make_scorer", counting)
        run(again, split="test[:50]", batch_size=20)
    first = {"one batch": 1, "one batch+7": 1, "all-1": 2, "all": 3}.get(left, 0)
    assert steps == list(range(first, 3))
    assert rows_of(again) == rows_of(output)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["scores.csv", "scores.csv.json"]


def test_a_table_that_is_there_is_left_alone(run, table, capsys):
    output, _ = table
    before = output.read_bytes(), output.stat().st_mtime_ns
    run(output, split="test[:50]", batch_size=20)
    assert "is there already, all 50 rows of it" in capsys.readouterr().out
    with pytest.raises(ValueError, match=r"has seed=0\. Received: seed=5"):
        run(output, split="test[:50]", batch_size=20, seed=5)
    assert (output.read_bytes(), output.stat().st_mtime_ns) == before
    assert not journal_of(output).exists()


def test_a_journal_of_other_scores_is_left_alone(run, table, tmp_path):
    path = journal_of(tmp_path / "scores.csv")
    path.write_bytes(table[1][:-4])
    with pytest.raises(ValueError, match=r"has split='test\[:50\]'\. Received: split="):
        run(tmp_path / "scores.csv", split="test[:40]", batch_size=20)
    assert path.read_bytes() == table[1][:-4]


def test_two_processes_do_not_write_one_output(run, table, tmp_path):
    path = journal_of(tmp_path / "scores.csv")
    path.write_bytes(table[1][:-4])
    with open(path, "rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(ValueError, match="Another process writes to the same output"):
            run(tmp_path / "scores.csv", split="test[:50]", batch_size=20)
    assert path.read_bytes() == table[1][:-4]


def test_parquet_has_the_same_rows(run, table, tmp_path):
    run(tmp_path / "scores.parquet", split="test[:50]", batch_size=20)
    found = pyarrow.parquet.read_table(tmp_path / "scores.parquet").to_pydict()
    rows = rows_of(table[0])
    assert list(found) == list(rows[0])
    for key, column in found.items():
        np.testing.assert_array_equal(
            np.array(column, np.float32), np.array([row[key] for row in rows], np.float32)
        )


def test_rows_of_a_folder_name_the_files(run, tmp_path):
    images = loading.load("digits", "test[:3]", batch_size=3)
    names = ["a,b.png", 'sub/c "d".png', "sub/e\nf.png"]
    for name, image in zip(names, next(iter(images.dataset)).numpy(), strict=True):
        (tmp_path / "folder" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image[..., 0]).save(tmp_path / "folder" / name)
    output = tmp_path / "scores.csv"
    run(output, dataset=f"folder:{tmp_path / 'folder'}", split="train", batch_size=2)
    rows = rows_of(output)
    assert [row["file"] for row in rows] == names
    run(tmp_path / "digits.csv", split="test[:3]", batch_size=2)
    assert [r["bits_per_dim"] for r in rows] == [
        r["bits_per_dim"] for r in rows_of(tmp_path / "digits.csv")
    ]


def test_points_are_scored_in_nats(run, tmp_path):
    path = save_small(tmp_path / "points", "realnvp.two_moons", num_blocks=1, width=4)
    run(tmp_path / "scores.csv", model=path, split="test[:30]", jit="off")
    rows = rows_of(tmp_path / "scores.csv")
    assert list(rows[0]) == ["index", "nats", "log_prob"]
    assert all(float(row["nats"]) == -float(row["log_prob"]) for row in rows)


def test_wrong_images_and_flags_are_refused(run, tmp_path):
    images = {"bright": np.full([3, 8, 8, 1], 200, np.uint8), "large": np.zeros([3, 4, 4, 1], int)}
    for name, array in images.items():
        np.savez(tmp_path / f"{name}.npz", test=array)
    with pytest.raises(ValueError, match=r"^Images 0 to 2: .* 0 \.\. 16\. Received: .* to 200"):
        run(tmp_path / "a.csv", dataset=str(tmp_path / "bright.npz"))
    with pytest.raises(ValueError, match=r"shape \(8, 8, 1\)\. Received: .* shape \(4, 4, 1\)"):
        run(tmp_path / "b.csv", dataset=str(tmp_path / "large.npz"))
    with pytest.raises(app.UsageError, match=r"must be a file that ends in \.csv or \.parquet"):
        run(tmp_path / "c.txt")
    with pytest.raises(app.UsageError, match="must be a file that ends in"):
        run("")
    assert not list(tmp_path.glob("*.csv"))


@pytest.mark.slow
def test_kill_9_at_random_moments_loses_and_doubles_nothing(preset, tmp_path):
    """Kills a process again and again while its journal grows, until one comes to its end."""
    rng, output = np.random.default_rng(0), tmp_path / "scores.csv"
    flags = [f"--model={preset}", "--split=train+test", "--batch_size=4", "--seed=3"]
    command = [sys.executable, "-m", "trainers.score", *flags]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    kills = 0
    while not output.exists():
        process = subprocess.Popen(
            [*command, f"--output={output}"], env=environment, stdout=subprocess.DEVNULL
        )
        size = journal_of(output).stat().st_size if journal_of(output).exists() else 0
        wanted = size + int(rng.integers(1, 3200))  # Up to half of all scores.
        while process.poll() is None and kills < 3:
            if journal_of(output).exists() and journal_of(output).stat().st_size >= wanted:
                process.send_signal(signal.SIGKILL)
                kills += 1
                break
            time.sleep(0.001)
        process.wait()
    assert kills
    subprocess.run(
        [*command, f"--output={tmp_path / 'whole.csv'}"],
        env=environment,
        stdout=subprocess.DEVNULL,
        check=True,
    )
    assert rows_of(output) == rows_of(tmp_path / "whole.csv")
    assert len(rows_of(output)) == 1597
