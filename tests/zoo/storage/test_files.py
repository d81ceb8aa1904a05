"""Paths and JSON that presets are made of."""

import errno
import json
import math
import os

import pytest

from zoo.storage import files


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("~", "{home}"),
        ("~/x", "{home}/x"),
        ("a/~/x", "a/~/x"),
        ("gs://bucket/x", "gs://bucket/x"),
        ("/x~", "/x~"),
    ],
)
def test_the_home_directory_is_put_in(home, path, expected):
    assert files.expand_home(path) == expected.format(home=home)


def test_a_user_who_is_not_there(home):
    with pytest.raises(ValueError, match="no home directory of such a user. Received: ~nobody_7/x"):
        files.local("~nobody_7/x")


def strictly(text):
    """Reads what is JSON, in which there is no NaN."""

    def refuse(name):
        raise AssertionError(name)

    return json.loads(text, parse_constant=refuse)


def test_json_has_no_nan(tmp_path):
    content = {"a": [1.5, math.nan, {"b": (math.inf, 2)}], "c": -math.inf, "d": None, "e": "NaN"}
    expected = {"a": [1.5, None, {"b": [None, 2]}], "c": None, "d": None, "e": "NaN"}
    files.write_json(tmp_path / "a.json", content)
    assert strictly((tmp_path / "a.json").read_text()) == expected
    assert strictly(files.to_json(content)) == expected
    files.write_json(tmp_path / "a.json", {"a": 0.1, "b": "\udce9"})
    assert strictly((tmp_path / "a.json").read_text()) == {"a": 0.1, "b": "\udce9"}


def no_rename(path, target):
    raise OSError(errno.EIO, "Input/output error")


def test_a_file_that_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "config.json"
    files.write_json(path, {"a": 1})
    monkeypatch.setattr(os, "fsync", lambda descriptor: no_rename(None, None))
    with pytest.raises(OSError, match="Input/output"):
        files.write_json(path, {"a": 2})
    assert [json.loads(p.read_text()) for p in tmp_path.iterdir()] == [{"a": 1}]
