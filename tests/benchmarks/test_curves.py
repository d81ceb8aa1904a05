"""Bits/dim against minutes and parameters: runs, rows, picture and table."""

import json
import pathlib
import subprocess
import sys

import pytest

import zoo
from benchmarks import curves

ROOT = pathlib.Path(__file__).parents[2]
NAME = "glow.cifar10_small"


def write_run(folder, name, seed, scores, every=10):
    """Writes what a run leaves; a score may be `None`, which stands for NaN."""
    run = folder / f"{name}-{seed}"
    run.mkdir(parents=True)
    lines = [{"step": every * (i + 1), "val_bits_per_dim": s} for i, s in enumerate(scores)]
    (run / "metrics.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))


def write_step(folder, name, seconds):
    """Writes what was measured of a model."""
    path = folder / "steps" / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    step = {"step, s": seconds, "batch size": 32, "parameters": 700_000}
    path.write_text(json.dumps({"models": [step], "device": "2 CPU cores, a CPU"}))


@pytest.fixture
def folder(tmp_path):
    """Two runs of one model, one of another, slower one."""
    write_run(tmp_path, NAME, 0, [5.0, 4.0, 3.9])
    write_run(tmp_path, NAME, 1, [5.2, 4.2, None])
    write_run(tmp_path, "sylvester.cifar10_small", 0, [4.8, 4.5])
    write_step(tmp_path, NAME, 0.6)
    write_step(tmp_path, "sylvester.cifar10_small", 3.0)
    return tmp_path


def call(monkeypatch, folder, *flags):
    """Runs the program in a folder, where all of its files are."""
    files = [f"--{n}={folder / n}" for n in ("results", "picture.png", "page")]
    files = [text.replace("--picture.png", "--picture") for text in files]
    monkeypatch.setattr(sys, "argv", ["curves", f"--folder={folder}", *files, *flags])
    curves.main()


def test_rows_of_runs_and_of_presets(folder):
    rows = curves.rows_of_runs(folder)
    curves.write_rows(folder / "a.csv", rows + curves.rows_of_presets())
    read = curves.read_rows(folder / "a.csv")
    assert read[0] == {
        "model": NAME,
        "seed": 0,
        "step": 10,
        "images": 320,
        "split": "validation",
        "bits_per_dim": 5.0,
        "parameters": 700_000,
        "ms_per_step": 600.0,
        "device": "2 CPU cores, a CPU",
    }
    assert len(rows) == 7
    shipped = {row["model"]: row for row in read[7:]}
    assert set(shipped) == set(zoo.list_models("*.cifar10*", pretrained=True))
    row = shipped["convexp_glow.cifar10_small"]
    assert (row["split"], row["parameters"], row["seed"]) == ("test", 743_844, None)
    assert row["images"] == 256 * row["step"]  # Not the batch of the recipe.
    assert row["ms_per_step"] * row["step"] == pytest.approx(751_000, rel=1e-4)
    (folder / "steps" / f"{NAME}.json").unlink()
    with pytest.raises(ValueError, match=r"must be measured.*--time .*glow.cifar10_small.json is"):
        curves.rows_of_runs(folder)


def test_table_and_picture_from_the_file_alone(folder, monkeypatch):
    curves.write_rows(
        folder / "results", curves.rows_of_runs(folder) + curves.rows_of_presets()[:1]
    )
    (folder / "page").write_text(f"before\n\n{curves.BEGIN}\nold\n{curves.END}\n\nafter\n")
    for _ in range(2):
        call(monkeypatch, folder, "--plot")
        page = (folder / "page").read_text()
        assert page.startswith("before\n\n") and page.endswith("\n\nafter\n") and "old" not in page
    header, _, *lines = page.split("\n\n")[2].splitlines()
    # All of both seeds at 20 steps, 0.2 minutes of 600 ms each; then sylvester has no report.
    assert (
        "| ms a step | bits/dim after 20 steps | after 0.2 minutes | bits/dim at its end |"
        in header
    )
    assert lines[0] == (
        f"| `{NAME}` | 700,000 | 600 | 4.100 +- 0.100 | 4.100 +- 0.100 | 4.100 +- 0.100 "
        "| 20 steps, 0.2 minutes |"
    )
    assert lines[1] == (
        "| `sylvester.cifar10_small` | 700,000 | 3000 | 4.500 | - | 4.500 | 20 steps, 1.0 minutes |"
    )
    presets = [line.split(" | ")[0] for line in lines[2:]]
    assert "| `convexp_glow.cifar10_medium`" in presets and len(set(presets)) == len(presets)
    assert (folder / "picture.png").read_bytes().startswith(b"\x89PNG")
    (folder / "page").write_text("nothing")
    with pytest.raises(ValueError, match="must have the lines <!-- table"):
        call(monkeypatch, folder, "--plot")


def test_the_page_has_the_rows_of_the_file_and_of_the_presets():
    """If not: python -m benchmarks.curves --plot."""
    rows = curves.read_rows(ROOT / curves.RESULTS)
    assert f"{curves.BEGIN}\n\n{curves.table(rows)}\n\n" in (ROOT / curves.PAGE).read_text()
    shipped = [(row["model"], row["step"]) for row in rows if row["split"] == "test"]
    assert shipped == [(row["model"], row["step"]) for row in curves.rows_of_presets()]


def test_runs_begin_go_on_and_end(folder, monkeypatch, capsys):
    calls, codes = [], []

    def fake(module, log, *arguments):
        calls.append((module, arguments))
        log.write_text("" if not codes else codes[0])
        if "--seed=3" in arguments:
            write_run(folder, NAME, 3, [5.0, 4.0, 3.9, 3.8])
        return len(codes)

    monkeypatch.setattr(curves, "call", fake)
    flags = ("--train", "--steps=40", "--report_every=10", f"--only=^{NAME}$")
    (folder / f"{NAME}-0" / "config.json").write_text("{}")
    call(monkeypatch, folder, *flags, "--seeds=0,3")
    (_, resumed), (_, begun) = calls
    assert resumed == (
        f"--workdir={folder / f'{NAME}-0'}",
        "--resume",
        "--steps=40",
        "--report_every=10",
    )
    assert f"--model={NAME}" in begun and "--seed=3" in begun and "--resume" not in begun
    assert set(curves.SCHEDULE) < set(begun) and "--num_validation=1024" in begun
    assert "seed 3: 3.8000 bits/dim after 40 steps" in capsys.readouterr().out
    calls.clear()
    call(monkeypatch, folder, *flags, "--steps=20")
    assert not calls and "seed 0: 3.9000 bits/dim after 30 steps" in capsys.readouterr().out
    codes.append("NonFiniteError: In step 37: the loss")
    call(monkeypatch, folder, *flags)  # The other models go on.
    assert "stopped after 30 steps, not finite" in capsys.readouterr().out
    codes[0] = "ValueError"
    with pytest.raises(RuntimeError, match="failed; its output is in .*glow.cifar10_small-0.log"):
        call(monkeypatch, folder, *flags)


@pytest.mark.parametrize(
    ("flag", "match"),
    [
        ("--seeds=a", "`--seeds` must be numbers"),
        ("--report_every=3", "must divide `--steps`"),
        ("--only=(", "must be a regular expression"),
        ("--only=nothing", "must match a model of"),
    ],
)
def test_mistakes(folder, monkeypatch, flag, match):
    with pytest.raises(ValueError, match=match):
        call(monkeypatch, folder, flag)


@pytest.mark.slow
@pytest.mark.data
def test_a_run_goes_on(tmp_path):
    """The whole command, twice: the second goes on from the end of the first."""
    (tmp_path / "page").write_text(f"{curves.BEGIN}\n{curves.END}\n")
    command = [sys.executable, "-m", "benchmarks.curves", f"--only=^{NAME}$", "--rounds=1"]
    command += ["--num_validation=64", f"--folder={tmp_path}", f"--page={tmp_path / 'page'}"]
    command += [f"--results={tmp_path / 'rows'}", f"--picture={tmp_path / 'a.png'}"]
    for steps in (2, 3):
        subprocess.run([*command, f"--steps={steps}", "--report_every=1"], check=True, cwd=ROOT)
    rows = [row for row in curves.read_rows(tmp_path / "rows") if row["split"] == "validation"]
    assert [row["step"] for row in rows] == [1, 2, 3]
    assert all(row["ms_per_step"] > 0 and row["device"] for row in rows)
    assert f"| `{NAME}` | 716,628 |" in (tmp_path / "page").read_text()
