"""Reports after the step of the backup are dropped."""

import tensorflow as tf

from tests.trainers.runs.small_runs import events
from trainers.runs import callbacks, rewind


def test_reports_after_the_step_of_the_backup_are_dropped(tmp_path):
    """Also where two backups were damaged, or the run was killed within its report."""
    text = '{"step": 2, "nats": 3.0}\n[1]\n{"step": 4, "nats": 2}\n{"step": 6, "nats": 1}\n{"st'
    rows = ["epoch,nats\n", "0,3.0\n", "1,2\n", "2,1\n", "3,"]
    for step, left in ((9, 3), (6, 3), (5, 2), (2, 1), (0, 0)):
        (tmp_path / "metrics.jsonl").write_text(text)
        (tmp_path / "volume.jsonl").write_text('{"step": 0}\n{"step": 2}\n{"step": 4}\n')
        (tmp_path / "metrics.csv").write_text("".join(rows))
        rewind.rewind(tmp_path, step)
        lines = callbacks.read_lines(tmp_path / "metrics.jsonl")
        assert [line["step"] for line in lines] == [2, 4, 6][:left]
        assert (tmp_path / "metrics.csv").read_text() == "".join(rows[: left + 1] if left else [])
        volumes = callbacks.read_lines(tmp_path / "volume.jsonl")
        assert [line["step"] for line in volumes] == [s for s in (0, 2, 4) if 0 < step >= s]


def test_half_an_event_is_dropped(tmp_path):
    folder = tmp_path / "tensorboard" / "train"
    with tf.summary.create_file_writer(str(folder)).as_default():
        for step in (1, 2, 3):
            tf.summary.scalar("nats", 0.0, step=step)
    (path,) = folder.iterdir()
    path.write_bytes(path.read_bytes()[:-5])
    rewind.rewind(tmp_path, 9)
    assert events(tmp_path) == [("train", "nats", 1), ("train", "nats", 2)]
    rewind.rewind(tmp_path, 1)
    assert events(tmp_path) == [("train", "nats", 1)]
    rewind.rewind(tmp_path, 0)
    assert not list(folder.iterdir())
