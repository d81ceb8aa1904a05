"""Which files of a folder are read, and in which split: no test image is trained on."""

import os

import numpy as np
import pytest

from tests.trainers.data.image_sets import make, numbers, save
from trainers.data import batching, loading


def test_folders_of_any_names_are_splits(tmp_path):
    make(tmp_path, "Training/a.png", "Training/b.png", "TEST/a.png", "Valid/x/a.png", "extra/a.png")
    assert [numbers(tmp_path, split) for split in ("train", "validation", "test")] == [
        [0, 1],
        [3],
        [2],
    ]
    assert loading.has_split(str(tmp_path), "validation")
    assert not loading.has_split(str(tmp_path / "extra"), "validation")


@pytest.mark.parametrize(
    "names",
    [
        ("train_0.png", "test_0.png"),
        ("a/Train1.png", "b/val1.png"),
        ("0.png", "test.txt"),
        ("0.png", "meta/train_test_split.csv"),
    ],
)
def test_splits_in_names_of_files_are_asked_about(tmp_path, names):
    for name in names:
        if name.endswith("png"):
            save(tmp_path / name)
        else:
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).write_text("0.png")
    with pytest.raises(ValueError, match=r"must say what to train on.* may tell of splits"):
        numbers(tmp_path)
    if names[0] == "0.png":
        (tmp_path / "train").mkdir()
        (tmp_path / "0.png").rename(tmp_path / "train" / "0.png")
        assert len(numbers(tmp_path)) == 1


def test_what_is_hidden_is_not_read(tmp_path, caplog):
    hidden = (".ipynb_checkpoints/a.png", ".thumbnails/x/a.png", "__MACOSX/a.png", "@eaDir/a.png")
    make(tmp_path, "a.png", "b/a.png", "._a.png", "b/.a.png", *hidden)
    (tmp_path / ".DS_Store").write_bytes(b"")
    (tmp_path / "b" / ".git").mkdir()
    assert numbers(tmp_path) == [0, 1]
    assert numbers(tmp_path, "train[1:]") == [1]
    (line,) = [record.getMessage() for record in caplog.records]
    assert line == f"`{tmp_path}`: left out 6 hidden (`._a.png`)."


def test_what_is_left_out_is_said_in_one_line(tmp_path, caplog):
    make(tmp_path, "train/a.png", "test/a.png", "extra/a.png", "extra/b.png")
    for name in ("train/a.txt", "b.heic", "c.heic", "README"):
        (tmp_path / name).write_text("")
    os.mkfifo(tmp_path / "pipe.png")
    assert numbers(tmp_path) == [0]
    (line,) = [record.getMessage() for record in caplog.records]
    assert "\n" not in line
    for part in (
        "2 .heic (`b.heic`)",
        "1 .txt (`train/a.txt`)",
        "1 without a suffix (`README`)",
        "1 not regular files (`pipe.png`)",
        "2 in no split (`extra/a.png`)",
    ):
        assert part in line


def test_links_are_followed_without_loops(tmp_path, caplog):
    root = make(tmp_path / "root", "a.png", "b/a.png")
    elsewhere = make(tmp_path / "elsewhere", "y/x.png")
    save(elsewhere / "z.png", np.full([2, 3], 7, np.uint8))
    (root / "c").symlink_to(elsewhere)  # Read.
    (root / "d.png").symlink_to("a.png")  # Read: a name of its own.
    (root / "b" / "up").symlink_to(root)  # A loop.
    (root / "b2").symlink_to("b")  # The same images again.
    opened = loading.load(str(root), "train", batch_size=9)
    assert opened.names == ("a.png", "b/a.png", "c/y/x.png", "c/z.png", "d.png")
    (line,) = [record.getMessage() for record in caplog.records]
    assert "links to a folder that they are in (`b/up`)" in line
    assert "that a link leads to once more (`b2/a.png`)" in line


def test_splits_that_are_links(tmp_path):
    root = make(tmp_path, "all/0.png", "all/1.png", "all/2.png")
    for name, split in (("0", "train"), ("1", "train"), ("2", "test")):
        (root / split).mkdir(exist_ok=True)
        (root / split / f"{name}.png").symlink_to(root / "all" / f"{name}.png")
    assert numbers(root) == [0, 1]
    assert numbers(root, "test") == [2]
    (root / "train" / "again.png").hardlink_to(root / "all" / "2.png")
    with pytest.raises(ValueError, match=r"in one split. Received: `test/2.png` and `train/again."):
        numbers(root)


@pytest.mark.parametrize("streamed", [False, True])
def test_names_that_are_no_unicode(tmp_path, streamed, monkeypatch):
    make(tmp_path, "a.png")
    os.rename(tmp_path / "a.png", os.fsencode(tmp_path) + b"/caf\xe9.png")
    if streamed:
        monkeypatch.setattr(batching, "HELD_BYTES", 0)
    assert numbers(tmp_path) == [0]
    assert loading.load(str(tmp_path), "train", batch_size=1).names == (r"caf\xe9.png",)
    with open(os.fsencode(tmp_path) + b"/caf\xe9.png", "wb"):
        pass
    with pytest.raises(ValueError, match=r"`caf\\xe9.png`: no image"):
        numbers(tmp_path)


def test_empty_folders(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"must hold images .*Received: an empty folder"):
        numbers(tmp_path)
    (tmp_path / "a.heic").write_bytes(b"")
    (tmp_path / "test").mkdir()
    with pytest.raises(FileNotFoundError, match=r"Received: 1 .heic \(`a.heic`\)"):
        numbers(tmp_path)
