"""Scores of runs: images, points and sets."""

import json
import shutil

import numpy as np
import pytest
from absl import app
from absl.testing import flagsaver

from tests.small_presets import save_small
from tests.trainers.tiny_runs import run
from trainers import evaluate, sample
from trainers.runs import callbacks

pytestmark = pytest.mark.usefixtures("tiny")


def test_evaluate_scores_a_run(finished, tmp_path, capsys):
    workdir = shutil.copytree(finished, tmp_path / "run")
    run(evaluate.main, workdir=str(workdir), split="test[:50]", num_samples=2)
    metrics = json.loads((workdir / "metrics.json").read_text())
    assert metrics["model"] == "tiny.digits"
    assert metrics["data"] == "digits, test[:50], 50 images"
    assert "2 sample(s)" in metrics["definition"]
    assert 0 < metrics["bits_per_dim"] < 20
    assert 0 < metrics["standard_error"] < 1
    assert metrics["round_trip_error"] < 0.01
    assert f"{metrics['bits_per_dim']:.4f}" in capsys.readouterr().out


def test_evaluate_needs_a_finished_run(tmp_path):
    with pytest.raises(ValueError, match="must be the folder of a run"):
        run(evaluate.main, workdir=str(tmp_path))
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ValueError, match="has not finished: go on with"):
        run(evaluate.main, workdir=str(tmp_path))
    with pytest.raises(app.UsageError, match="Either --workdir or --model"):
        run(evaluate.main)


def test_points_are_scored_in_nats_beside_their_entropy(points, capsys):
    for line in callbacks.read_lines(points / "metrics.jsonl"):
        assert 1 < line["val_nats"] < 20
    run(evaluate.main, workdir=str(points), split="test[:500]")
    metrics = json.loads((points / "metrics.json").read_text())
    assert metrics["nats"] > metrics["entropy"] > 1
    assert metrics["data"] == "rings, test[:500], 500 points"
    assert "the least a model can reach, is" in capsys.readouterr().out
    card = (points / "preset" / "README.md").read_text()
    assert "nats" in card
    assert "](deformation.png)" in card
    assert (points / "preset" / "deformation.png").exists()


def test_sets_are_scored_in_nats_a_node_beside_their_entropy(tmp_path, capsys):
    workdir = tmp_path / "mog4"
    run(
        model="graph_coupling.mog4",
        workdir=str(workdir),
        steps=4,
        batch_size=64,
        report_every=4,
        num_validation=64,
        set=["num_blocks=1", "width=8"],
        jit="off",
    )
    (line,) = callbacks.read_lines(workdir / "metrics.jsonl")
    assert 3.6324 < line["val_nats_per_node"] < 10
    card = (workdir / "preset" / "README.md").read_text()
    assert "| training nats/node |" in card
    for path in ("samples/step_0000004.png", "preset/samples.png", "training_curve.png"):
        assert (workdir / path).read_bytes().startswith(b"\x89PNG")
    run(evaluate.main, workdir=str(workdir), split="test[:500]", jit="off")
    metrics = json.loads((workdir / "metrics.json").read_text())
    assert 3.6324 < metrics["nats_per_node"] < 10
    assert metrics["entropy"] == pytest.approx(3.6324, abs=1e-4)
    assert metrics["data"] == "mog4, test[:500], 500 sets of nodes"
    assert "entropy, the least a model can reach, is 3.6324" in capsys.readouterr().out
    run(sample.main, workdir=str(workdir), count=300)
    assert (workdir / "samples.png").read_bytes().startswith(b"\x89PNG")


def test_one_image_has_a_score_and_no_error_of_the_mean(tmp_path, capsys):
    preset = save_small(tmp_path / "tiny", "glow.digits", steps=(1, 1), widths=(4, 4))
    np.savez(tmp_path / "one.npz", test=np.ones([1, 8, 8], np.uint8))
    output = tmp_path / "metrics.json"
    with flagsaver.flagsaver(model=preset, dataset=str(tmp_path / "one.npz"), output=str(output)):
        evaluate.main(["binary"])
    printed = capsys.readouterr().out
    assert ", of one only: no error of the mean" in printed
    assert "nan" not in printed
    metrics = json.loads(output.read_text(), parse_constant=pytest.fail)
    assert metrics["standard_error"] is None
    assert np.isfinite(metrics["bits_per_dim"])


def test_the_bar_ends_with_the_mean_of_all_scores(capsys):
    bar = evaluate.ScoreBar(3, "row")
    bar.see(np.array([1.0, 2.0]))
    bar.see(np.array([6.0]))
    assert "score: 3.0000" in capsys.readouterr().out
