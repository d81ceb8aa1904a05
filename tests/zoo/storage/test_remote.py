"""Presets by URL, from a server on loopback that also answers wrongly, or not at all."""

import functools
import hashlib
import http.server
import json
import shutil
import socket
import threading
import time

import numpy as np
import pytest

import zoo
from tests.small_presets import save_small
from zoo.storage import files, presets, remote


class Handler(http.server.SimpleHTTPRequestHandler):
    """Serves a folder; `server.answers` has functions for the names that it answers otherwise."""

    def do_GET(self):
        self.server.asked.append(self.path)
        answer = self.server.answers.get(self.path.rpartition("/")[2])
        if answer is None:
            super().do_GET()
        else:
            answer(self)

    def log_message(self, *args):
        pass


def send(content, length=None):
    """Returns an answer with content; and of another length, or of none, as it says."""

    def answer(handler):
        handler.send_response(200)
        if length != "none":
            handler.send_header("Content-Length", str(len(content) if length is None else length))
        handler.end_headers()
        handler.wfile.write(content)

    return answer


def wait(handler):
    """Answers with a few bytes, and then with nothing for longer than is waited for."""
    handler.send_response(200)
    handler.send_header("Content-Length", "5000")
    handler.end_headers()
    handler.wfile.write(b"few")
    handler.wfile.flush()
    handler.server.stopped.wait(20)


def flood(handler):
    """Answers without an end."""
    handler.send_response(200)
    handler.end_headers()
    try:
        while not handler.server.stopped.is_set():
            handler.wfile.write(b" " * (1 << 20))
    except OSError:
        pass


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """The folder of a preset."""
    return save_small(
        tmp_path_factory.mktemp("small") / "preset", "realnvp.two_moons", num_blocks=1, width=4
    )


@pytest.fixture
def server(small, tmp_path, monkeypatch):
    """A server of the folder `hosted`, in which `model` is a bundle; the cache is in `home`."""
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    hosted = tmp_path / "hosted"
    handler = functools.partial(Handler, directory=str(hosted))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.asked, server.answers, server.stopped = [], {}, threading.Event()
    server.digest = zoo.bundle(small, hosted / "model")
    server.folder = hosted / "model"
    server.url = f"http://127.0.0.1:{server.server_port}/model"
    thread = threading.Thread(target=server.serve_forever, args=[0.01])
    thread.start()
    yield server
    server.stopped.set()
    server.shutdown()
    server.server_close()
    thread.join()


def left(tmp_path):
    """The files and folders below the cache."""
    return [path for path in (tmp_path / "home").rglob("*") if path.name != "tfflows"]


def points():
    return np.array([[0.5, -0.2], [1.0, 0.3]], "float32")


def test_a_bundle_has_the_files_of_the_preset_and_their_sums(server, small):
    names = ["README.md", "SHA256SUMS", "config.json", "metadata.json", "model.weights.h5"]
    assert sorted(path.name for path in server.folder.iterdir()) == names
    lines = (server.folder / "SHA256SUMS").read_text().splitlines()
    expected = [f"{files.sha256(server.folder / n)}  {n}" for n in names if n != "SHA256SUMS"]
    assert lines == expected
    assert server.digest == files.sha256(server.folder / "SHA256SUMS")
    assert zoo.bundle(small, server.folder) == server.digest  # Again, in its place.


def test_pictures_are_in_a_bundle_and_nothing_that_metadata_lead_to(tmp_path, small):
    source = tmp_path / "source"
    shutil.copytree(small, source)
    (source / "samples.png").write_bytes(b"\x89PNG")
    (tmp_path / "secret.png").write_bytes(b"secret")
    metadata = json.loads((source / "metadata.json").read_text())
    metadata["pictures"] = {"a": "samples.png", "b": "../secret.png", "c": "missing.png", "d": 1}
    (source / "metadata.json").write_text(json.dumps(metadata))
    zoo.bundle(source, tmp_path / "bundle")
    pictures = [path.name for path in (tmp_path / "bundle").glob("*.png")]
    assert pictures == ["samples.png"]


def test_only_a_bundle_is_replaced(tmp_path, small):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "one.jpg").touch()
    with pytest.raises(ValueError, match=r"`path` must be a new folder, or a bundle\. Received"):
        zoo.bundle(small, tmp_path / "photos")
    assert (tmp_path / "photos" / "one.jpg").exists()
    with pytest.raises(ValueError, match=r"must be a new folder.* path=https://example\.org/x\."):
        zoo.bundle(small, "https://example.org/x")  # That is for who serves it.


def test_a_url_is_a_name_and_is_asked_once(server, small, tmp_path):
    expected = zoo.load(small).log_prob(points())
    np.testing.assert_array_equal(zoo.load(server.url).log_prob(points()), expected)
    count = len(server.asked)
    server.shutdown()
    server.server_close()  # Without a network.
    model = zoo.open_trained(f"{server.url}/#sha256={server.digest}")
    np.testing.assert_array_equal(model.density.log_prob(points()), expected)
    assert zoo.describe(server.url) == (server.folder / "README.md").read_text()
    assert zoo.create(server.url, seed=3).log_prob(points()).shape == [2]
    assert len(server.asked) == count
    assert model.folder.parent == tmp_path / "home" / "tfflows"
    assert {path.name for path in model.folder.iterdir()} >= {"SHA256SUMS", presets.WEIGHTS}
    with pytest.raises(OSError, match="SHA256SUMS could not be fetched. Received: .*refused"):
        remote.fetch(f"{server.url}2")


def test_what_is_altered_in_the_cache_is_fetched_again(server):
    folder = remote.fetch(server.url)
    for name in ("config.json", presets.WEIGHTS, "SHA256SUMS"):
        (folder / name).write_bytes(b"altered")
        assert remote.fetch(server.url) == folder
        assert (folder / name).read_bytes() == (server.folder / name).read_bytes()
    (folder / "README.md").unlink()
    assert (remote.fetch(server.url) / "README.md").is_file()


@pytest.mark.parametrize("name", [remote.SUMS, *remote.FILES])
@pytest.mark.parametrize(
    ("spoil", "error"),
    [
        (lambda content: send(content[:-5]), "damaged or was altered|bundle as `zoo.bundle`"),
        (lambda content: send(content[:-5], len(content)), "could not be fetched"),
        (lambda content: send(content.replace(b"e", b"f")), "damaged or was altered|must have a"),
        (lambda content: send(b""), "altered|must have a|Content-Length of 0"),
        (lambda content: lambda handler: handler.send_error(404), "HTTP Error 404"),
        (lambda content: lambda handler: handler.send_error(500), "HTTP Error 500"),
        (lambda content: wait, "could not be fetched. Received: .*timed out"),
        (lambda content: flood, "Content-Length of None|more than|bytes in"),
        (lambda content: lambda handler: handler.wfile.write(b"?\r\n"), "could not be fetched"),
        (lambda content: lambda handler: None, "could not be fetched"),
    ],
    ids=[
        *("short", "truncated", "altered", "empty", "missing"),
        *("broken", "slow", "endless", "strange", "silent"),
    ],
)
def test_wrong_answers_are_one_line_and_leave_nothing(
    server, tmp_path, monkeypatch, name, spoil, error
):
    server.answers[name] = spoil((server.folder / name).read_bytes())
    if server.answers[name] is wait:
        monkeypatch.setattr(remote, "SECONDS", 0.3)
    begin = time.monotonic()
    with pytest.raises((OSError, ValueError), match=error) as caught:
        remote.fetch(server.url)
    assert time.monotonic() - begin < 8
    assert "\n" not in str(caught.value) and server.url in str(caught.value)
    assert left(tmp_path) == []
    assert socket.getdefaulttimeout() is None
    del server.answers[name]
    assert remote.fetch(server.url).is_dir()


def test_a_url_may_promise_the_sums(server, tmp_path):
    with pytest.raises(
        ValueError, match=f"SHA256SUMS is .* must be {'0' * 64}. Received: {server.digest}"
    ):
        remote.fetch(f"{server.url}#sha256={'0' * 64}")
    assert left(tmp_path) == []
    folder = remote.fetch(f"{server.url}#sha256={server.digest}")
    assert folder == remote.fetch(server.url)
    metadata = server.folder / "metadata.json"
    metadata.write_text(metadata.read_text() + "\n")
    newer = remote.write_sums(server.folder)
    assert remote.fetch(server.url) == folder  # It is there.
    assert metadata.read_bytes() != (folder / "metadata.json").read_bytes()
    remote.fetch(f"{server.url}#sha256={newer}")
    assert metadata.read_bytes() == (folder / "metadata.json").read_bytes()


def test_names_in_sums_lead_nowhere_else(server, tmp_path):
    text = (server.folder / "SHA256SUMS").read_text()
    server.answers["SHA256SUMS"] = send(
        f"{'0' * 64}  ../../x\n{'1' * 64}  more.txt\n{text}".encode()
    )
    folder = remote.fetch(server.url)
    assert "more.txt" not in {path.name for path in folder.iterdir()}
    assert not any(path.endswith(("x", "more.txt")) for path in server.asked)


@pytest.mark.parametrize(
    ("url", "error"),
    [
        ("http:///model", "must have the name of a host"),
        ("https://", "must have the name of a host"),
        ("http://127.0.0.1:1/model", "could not be fetched. Received: .*refused"),
        ("http://127.0.0.1:port/model", "could not be fetched"),
        ("http://127.0.0.1:1/model#part", "must be #sha256= and 64 hexadecimal digits"),
        ("http://127.0.0.1:1/a b\n\r", "could not be fetched"),
        ("http://[::1/model", "Invalid IPv6 URL"),
    ],
)
def test_urls_that_lead_nowhere(server, url, error):
    with pytest.raises((OSError, ValueError), match=error) as caught:
        zoo.load(url)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("url", ["file:///etc", "ftp://127.0.0.1/model", "s3://bucket/model"])
def test_other_schemes_are_paths(server, url):
    with pytest.raises(ValueError, match="There must be a folder with a preset"):
        zoo.load(url)


def test_spaces_and_letters_in_a_url(server):
    server.folder.rename(server.folder.parent / "mein modéll")
    folder = remote.fetch(server.url.replace("/model", "/mein modéll/"))
    assert (folder / "config.json").is_file()
    assert server.asked[0] == "/mein%20mod%C3%A9ll/SHA256SUMS"


# Weights at a URL that metadata name.


@pytest.fixture
def without_weights(server, small, tmp_path):
    """A preset whose weights are on the server alone; a function sets other metadata."""
    path = tmp_path / "preset"
    shutil.copytree(small, path)
    (path / presets.WEIGHTS).unlink()
    metadata = json.loads((path / "metadata.json").read_text())

    def change(**changes):
        (path / "metadata.json").write_text(json.dumps({**metadata, **changes}))
        return str(path)

    change(url=f"{server.url}/{presets.WEIGHTS}")
    return change


def test_metadata_may_name_the_url_of_the_weights(server, small, without_weights, tmp_path):
    path = without_weights(url=f"{server.url}/{presets.WEIGHTS}")
    assert presets.has_weights(path)
    expected = zoo.load(small).log_prob(points())
    np.testing.assert_array_equal(zoo.load(path).log_prob(points()), expected)
    server.shutdown()
    server.server_close()
    np.testing.assert_array_equal(zoo.load(path).log_prob(points()), expected)
    zoo.bundle(path, tmp_path / "bundle")  # With them.
    assert (tmp_path / "bundle" / presets.WEIGHTS).is_file()


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"url": "file:///etc/passwd"}, "must be a URL of http or https"),
        ({"url": "/etc/passwd"}, "must be a URL of http or https"),
        ({"url": 5}, "must be a URL of http or https"),
        ({"sha256": "../../x"}, "64 hexadecimal digits"),
        ({"sha256": None}, "64 hexadecimal digits"),
        ({"sha256": "0" * 64}, "damaged or was altered"),
    ],
)
def test_other_urls_and_sums_are_refused(server, without_weights, tmp_path, changes, error):
    path = without_weights(**{"url": f"{server.url}/{presets.WEIGHTS}", **changes})
    with pytest.raises(ValueError, match=error):
        zoo.load(path)
    assert [p for p in left(tmp_path) if p.name != "weights"] == []


def test_weights_that_are_altered_in_the_cache_are_fetched_again(server, without_weights):
    path = without_weights(url=f"{server.url}/{presets.WEIGHTS}")
    weights = presets.checked_weights(path)
    content = weights.read_bytes()
    weights.write_bytes(content[:-1])
    assert presets.checked_weights(path) == weights
    assert hashlib.sha256(weights.read_bytes()).digest() == hashlib.sha256(content).digest()
