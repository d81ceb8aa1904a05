"""Every program with a table: trained, killed, resumed, scored, sampled, exported."""

import csv
import json

import numpy as np
import pyarrow.parquet
import pytest
import tensorflow as tf

import zoo
from tests.trainers.tiny_runs import check_same_weights, killed, run, run_and_copy
from trainers import benchmark, deform, evaluate, export, sample, score
from trainers.data.tables.table import open_table
from trainers.runs import callbacks

FLAGS = {
    "model": "maf.table",
    "set": ["num_blocks=2", "width=8"],
    "batch_size": 16,
    "steps": 4,
    "report_every": 2,
    "column_kind": ["price=positive"],
    "columns": "count,price,x",
    "jit": "off",
}


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    """A table of a text, an integer, a price and a real column."""
    rng = np.random.default_rng(0)
    path = tmp_path_factory.mktemp("data") / "rows.csv"
    with open(path, "w", newline="") as file:
        writer = csv.writer(file, delimiter=";")
        writer.writerow(["name", "x", "count", "price"])
        for i in range(200):
            writer.writerow(
                [f"row {i}", f"{rng.normal():.4f}", rng.poisson(4), f"{rng.gamma(2):.4f}"]
            )
    return str(path)


@pytest.fixture(scope="module")
def table(path, tmp_path_factory):
    """The folder of a run of four steps on it."""
    workdir = tmp_path_factory.mktemp("runs") / "whole"
    run_and_copy(workdir, dataset=path, **FLAGS)
    return workdir


GIVEN = {
    **FLAGS,
    **{"columns": "count,price", "condition_columns": "x"},
    "steps_per_execution": 2,
}


@pytest.fixture(scope="module")
def given(path, tmp_path_factory):
    """The folder of a run on two columns given the third."""
    workdir = tmp_path_factory.mktemp("runs") / "given"
    run_and_copy(workdir, dataset=path, **GIVEN)
    return workdir


def test_the_columns_are_arguments_of_the_model(table, path, capsys):
    config = json.loads((table / "config.json").read_text())
    assert [(c["name"], c["kind"]) for c in config["arguments"]["columns"]] == [
        ("count", "integer"),
        ("price", "positive"),
        ("x", "real"),
    ]
    assert config["num_examples"] == 160
    assert config["recipe"]["dataset"] == f"{path}?columns=count,price,x"
    lines = callbacks.read_lines(table / "metrics.jsonl")
    assert all(line["rows_per_second"] > 0 for line in lines)
    assert all(np.isfinite([line["nats"], line["val_nats"]]).all() for line in lines)
    model = zoo.open_trained(table / "preset")  # Without the data.
    assert model.kind == zoo.TABLES
    assert zoo.load(table / "preset").event_shape == [3]
    for picture in ("samples/step_0000002.png", "preset/samples.png", "training_curve.png"):
        assert (table / picture).read_bytes().startswith(b"\x89PNG")
    assert "| price | positive |" in (table / "preset" / "README.md").read_text()


def test_a_run_that_was_killed_goes_on(table):
    workdir = killed(table)
    run(workdir=str(workdir), resume=True, report_every=2, jit="off")
    check_same_weights(workdir, table)
    with pytest.raises(ValueError, match=r"can't change a run: its column 'price' is of kind pos"):
        run(workdir=str(workdir), resume=True, report_every=2, column_kind=["price=real"])


def test_the_same_command_goes_on(given, path):
    run(workdir=str(killed(given)), dataset=path, resume=True, **GIVEN)
    check_same_weights(killed(given), given)


@pytest.mark.slow
@pytest.mark.parametrize("calls", [1, 2])
@pytest.mark.parametrize("name", ["balanced", "realnvp", "rq_nsf", "rq_nsf_ar", "tarflow"])
def test_every_model_goes_on(name, calls, path, tmp_path):
    flags = FLAGS | {"model": f"{name}.table", "steps_per_execution": calls, "jit": "auto"}
    workdir = tmp_path / "whole"
    run_and_copy(workdir, dataset=path, **flags)
    run(workdir=str(killed(workdir)), dataset=path, resume=True, **flags)
    check_same_weights(killed(workdir), workdir)


def test_a_table_given_columns(given, path, tmp_path, capsys):
    config = json.loads((given / "config.json").read_text())
    (column,) = config["arguments"]["condition_columns"]
    assert (column["name"], column["kind"]) == ("x", "real")
    assert "condition=x" in config["recipe"]["dataset"]
    model = zoo.open_trained(given / "preset")
    assert model.is_conditional
    assert model.given([[0.5]]).distribution.event_shape == [2]
    readme = (given / "preset" / "README.md").read_text()
    assert "| x | real |" in readme
    mean = float(f"{column['loc']:.4g}")
    assert f".given([{mean}]).distribution.sample(" in readme
    run(evaluate.main, workdir=str(given), jit="off")
    metrics = json.loads((given / "metrics.json").read_text())
    assert metrics["definition"].startswith("-log P(x | y) of rows")
    assert metrics["definition"].endswith("given 1 column(s) y: x")
    output = tmp_path / "scores.csv"
    run(score.main, workdir=str(given), output=str(output), split="all", jit="off")
    with open(output) as file:
        scores = list(csv.DictReader(file))
    assert list(scores[0])[-3:] == ["count", "price", "x"]
    rows = [[float(row[name]) for name in ("count", "price", "x")] for row in scores[:3]]
    rows = np.array(rows, np.float32)
    # The noise of the integers is another one, but hardly.
    found = model.given(rows[:, 2:]).log_prob(rows[:, :2], [0, 0], num_samples=200)
    np.testing.assert_allclose([float(r["log_prob"]) for r in scores[:3]], found, atol=0.3)


def test_samples_given_columns(given, path, tmp_path):
    def drawn(**flags):
        run(sample.main, workdir=str(given), output=str(tmp_path / "s.csv"), **flags)
        assert (tmp_path / "s.png").is_file()
        table = open_table(str(tmp_path / "s.csv"))
        assert table.names == ("count", "price", "x")
        return table.rows

    rows = drawn(count=30, given=["x=-0.5"])
    assert rows.shape == (30, 3)
    assert set(rows[:, 2]) == {-0.5}
    assert len(set(rows[:, 1])) == 30
    (tmp_path / "new.csv").write_text("x\n1.5\n2.5\n-1\n")
    rows = drawn(dataset=str(tmp_path / "new.csv"))
    np.testing.assert_array_equal(rows[:, 2], [1.5, 2.5, -1])
    data = open_table(f"{path}?columns=x").rows
    rows = drawn(count=20)
    assert np.isin(rows[:, 2], data).all()
    assert len(set(rows[:, 2])) > 10
    model = str(given / "preset")  # Whose data are not known.
    with pytest.raises(ValueError, match=r"`--given=NAME=NUMBER` must be given for each of x"):
        run(sample.main, model=model, output=str(tmp_path / "t.csv"))
    run(sample.main, model=model, output=str(tmp_path / "t.csv"), count=2, given=["x=1"])


@pytest.mark.parametrize("text", [["y=1"], ["x=a"], ["x=nan"], ["x=1", "x=2"], ["x"]], ids=str)
def test_samples_given_what_is_no_condition(given, table, text, tmp_path):
    output = {"output": str(tmp_path / "s.csv")}
    with pytest.raises(ValueError, match="must be NAME=NUMBER, once for each.* x. Received: --giv"):
        run(sample.main, workdir=str(given), given=text, **output)
    with pytest.raises(ValueError, match="which maf.table has not"):
        run(sample.main, workdir=str(table), given=text, **output)


def test_a_start_keeps_its_columns_and_rows(given, table, path, tmp_path):
    flags = {"batch_size": 16, "steps": 2, "report_every": 2, "jit": "off"}
    run(workdir=str(tmp_path / "tuned"), init=str(given), **flags)
    before, after = (
        json.loads((w / "config.json").read_text()) for w in (given, tmp_path / "tuned")
    )
    assert after["recipe"]["dataset"] == before["recipe"]["dataset"]
    assert after["arguments"] == before["arguments"]
    for start in ({"init": str(given / "preset")}, {"init": "glow.digits", "model": "maf.table"}):
        with pytest.raises(ValueError, match="`--dataset` must be given with `--init` for a table"):
            run(workdir=str(tmp_path / "new"), **start)
    flags["dataset"] = path
    columns = {"columns": "count,price", "condition_columns": "x"}
    with pytest.raises(
        ValueError, match="`--columns` must be those.*already: count, price, x. Rec"
    ):
        run(workdir=str(tmp_path / "a"), init=str(table), **columns, **flags)
    with pytest.raises(ValueError, match="`--columns` must be those.*count, price. Received: --co"):
        run(workdir=str(tmp_path / "b"), init=str(given), columns="price", **flags)


def test_evaluate(table, capsys):
    run(evaluate.main, workdir=str(table), jit="off")
    metrics = json.loads((table / "metrics.json").read_text())
    assert metrics["standard_error"] > 0
    assert metrics["round_trip_error"] < 1e-3
    assert metrics["definition"].startswith(
        "-log P(x) of rows, uniform dequantisation of 1 integer"
    )
    assert metrics["data"].endswith("test, 20 rows")
    assert "nats" in capsys.readouterr().out


def test_evaluate_on_another_file(table, path, tmp_path):
    text = "price;count;x\n1.5;3;0.2\n2.5;4;-0.2\n"
    (tmp_path / "new.csv").write_text(text)
    flags = {
        "workdir": str(table),
        "dataset": str(tmp_path / "new.csv"),
        "split": "all",
        "jit": "off",
    }
    run(evaluate.main, output=str(tmp_path / "m.json"), **flags)
    assert json.loads((tmp_path / "m.json").read_text())["data"].endswith("all, 2 rows")
    (tmp_path / "new.csv").write_text(text.replace("price", "cost"))
    with pytest.raises(ValueError, match="must have a column 'price'"):
        run(evaluate.main, output=str(tmp_path / "m.json"), **flags)
    (tmp_path / "new.csv").write_text(text.replace(";3;", ";3.5;"))
    with pytest.raises(ValueError, match="column `count`, row 1: must be an integer"):
        run(evaluate.main, output=str(tmp_path / "m.json"), **flags)
    with pytest.raises(ValueError, match="must be a table"):
        run(evaluate.main, output=str(tmp_path / "m.json"), **{**flags, "dataset": "two_moons"})
    with pytest.raises(ValueError, match="takes points"):
        run(evaluate.main, model="balanced.two_moons", dataset=f"{path}?columns=1,2", split="all")


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_score_ranks_rows(table, tmp_path, suffix):
    output = tmp_path / f"scores{suffix}"
    run(score.main, workdir=str(table), split="all", output=str(output), jit="off")
    if suffix == ".csv":
        with open(output) as file:
            rows = list(csv.DictReader(file))
        found = {key: np.array([float(row[key]) for row in rows]) for key in rows[0]}
    else:
        read = pyarrow.parquet.read_table(output)
        found = {name: read[name].to_numpy() for name in read.column_names}
    assert list(found) == ["index", "nats", "log_prob", "row", "rank", "count", "price", "x"]
    assert found["row"].tolist() == list(range(1, 201))
    assert sorted(found["rank"]) == list(range(1, 201))
    assert np.argmin(found["rank"]) == np.argmax(found["nats"])


def test_rows_out_of_bounds_have_no_density(table, tmp_path, capsys):
    (tmp_path / "new.csv").write_text("price,count,x\n1.5,3,0.2\n-2.5,4,-0.2\n")
    flags = {"dataset": str(tmp_path / "new.csv"), "split": "all", "jit": "off"}
    run(score.main, workdir=str(table), output=str(tmp_path / "s.csv"), **flags)
    assert "1 of the scores are not finite" in capsys.readouterr().out
    assert ",inf,-inf,2,1," in (tmp_path / "s.csv").read_text()
    with pytest.raises(ValueError, match=r"column `price`, row 2: must be above 0"):
        run(evaluate.main, workdir=str(table), output=str(tmp_path / "m.json"), **flags)


@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".npz", ".png"])
def test_sample(table, tmp_path, suffix):
    output = tmp_path / f"drawn{suffix}"
    run(sample.main, workdir=str(table), count=50, output=str(output))
    assert output.with_suffix(".png").read_bytes().startswith(b"\x89PNG")
    if suffix == ".png":
        return
    if suffix == ".npz":
        with np.load(output) as file:
            found = {name: file[name] for name in file.files}
    else:
        drawn = open_table(str(output))
        assert drawn.is_integer.tolist() == [True, False, False]
        found = dict(zip(drawn.names, drawn.rows.T, strict=True))
    assert list(found) == ["count", "price", "x"]
    assert np.all(found["price"] > 0)
    assert len(found["x"]) == 50


def test_sample_refuses_what_is_for_images(table, tmp_path):
    for flags, match in (
        ({"keep_levels": ["1"]}, "draw pictures, of images or points"),
        ({"interpolate": True}, "draw pictures, of images or points"),
        ({"image_size": "8"}, "are for models of images"),
        ({"output": "a.xls"}, "end in"),
    ):
        with pytest.raises(ValueError, match=match):
            run(sample.main, workdir=str(table), **flags)


def test_sample_without_the_data_shows_samples_alone(table, tmp_path, caplog):
    run(sample.main, model=str(table / "preset"), count=10, output=str(tmp_path / "s.csv"))
    assert (tmp_path / "s.csv").is_file()
    assert "samples alone" in caplog.text  # A preset knows its recipe alone: another table.


@pytest.mark.slow
def test_export_given_columns(given, tmp_path):
    run(export.main, workdir=str(given), output=str(tmp_path / "saved"))
    loaded = tf.saved_model.load(str(tmp_path / "saved"))
    y = tf.constant([[0.5], [1.5], [-1.0]])
    drawn = loaded.sample(y, [0, 1])["x"]
    assert drawn.shape == (3, 2)
    assert loaded.log_prob(drawn, y, [0, 2])["log_prob"].shape == (3,)


@pytest.mark.slow
def test_export(table, tmp_path):
    run(export.main, workdir=str(table), output=str(tmp_path / "saved"))
    loaded = tf.saved_model.load(str(tmp_path / "saved"))
    drawn = loaded.sample(5, [0, 1])
    np.testing.assert_array_equal(drawn["x"][:, 0], np.floor(drawn["real"][:, 0]))
    np.testing.assert_array_equal(drawn["x"][:, 1:], drawn["real"][:, 1:])
    assert set(loaded.log_prob(drawn["x"], [0, 2])) == {"log_prob"}
    model = json.loads((tmp_path / "saved" / "assets.extra" / "model.json").read_text())
    assert [column["name"] for column in model["arguments"]["columns"]] == ["count", "price", "x"]


def test_benchmark_and_deform(table):
    entry = zoo.open_trained(table / "preset").entry
    assert benchmark.noise(entry, 4).shape == (4, 3)
    with pytest.raises(ValueError, match=r"must have events of shape \[2\]"):
        run(deform.main, workdir=str(table))


@pytest.mark.parametrize(
    ("flags", "match"),
    [
        ({"dataset": "digits"}, "must be a table"),
        ({"dataset": "none.csv"}, "there is none"),
        ({"columns": None}, r"text in 1 of 4 columns, `name` \('row 0'\).*--columns=x,count,price"),
        ({"columns": "x,y"}, r"must have a column 'y'"),
        ({"columns": "x,count", "model": "glow.digits", "set": []}, "takes images"),
        (
            {"column_kind": ["price=interval:0:1"]},
            r"column `price`, row \d+: must be between 0 and",
        ),
        ({"column_kind": ["cost=real"]}, r"must name a column. Received: 'cost'"),
        ({"model": "realnvp.table", "columns": "x", "column_kind": []}, "2 columns or more"),
    ],
    ids=str,
)
def test_wrong_flags_are_said_in_a_line(flags, match, path, tmp_path):
    with pytest.raises((ValueError, FileNotFoundError), match=match) as info:
        run(workdir=str(tmp_path / "run"), **{"dataset": path, **FLAGS, **flags})
    assert "\n" not in str(info.value)
    assert not (tmp_path / "run").exists()
