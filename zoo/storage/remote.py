"""Presets by URL: fetched whole, compared with their SHA-256, and kept for use without a network.

A bundle is a preset that any static host can serve: its files, and `SHA256SUMS`, a line for each as
`sha256sum` writes it. What is fetched lies in the cache, `$KERAS_HOME/tfflows` or
`~/.keras/tfflows`, and is compared with the sums whenever it is used; the server is asked once.

Answers may come from strangers: only plain files of the known names are fetched, of bounded size,
from http and https alone; nothing of them is executed, see `presets`.
"""

import contextlib
import hashlib
import os
import pathlib
import re
import socket
import time
import urllib.parse
import urllib.request
from typing import Any

import keras

from zoo.storage import files, read_weights

SUMS = "SHA256SUMS"
WEIGHTS = "model.weights.h5"
FILES = ("config.json", "metadata.json", "README.md", WEIGHTS)  # As they are fetched.
SECONDS = 30  # Without a byte, after which a server is given up; ten times as long for a text.
_MAX_SUMS = 1 << 16  # Bytes.
_DIGEST = re.compile(r"[0-9a-f]{64}")
_LINE = re.compile(r"([0-9a-f]{64}) [ *]([A-Za-z0-9][\w.-]{0,100})")


def is_url(name: Any) -> bool:
    """Returns whether a name is a URL that can be fetched."""
    return isinstance(name, str) and re.match("https?://", name, re.IGNORECASE) is not None


def cache() -> pathlib.Path:
    """Returns the folder of what was fetched: `tfflows` beside what Keras fetches."""
    return files.local(os.environ.get("KERAS_HOME") or "~/.keras") / "tfflows"


def fetch(url: str) -> pathlib.Path:
    """Returns the folder of a bundle, which is fetched if it is not in the cache.

    Args:
      url: of the folder on the server; it may end with `#sha256=` and the SHA-256 of `SHA256SUMS`.

    Raises:
      ValueError: if there is no bundle, or a file of it is not the one that is promised.
      OSError: if the server can't be reached, or does not answer.
    """
    base, expected = _split(url)
    name = f"{_last_part(base)}-{hashlib.sha256(base.encode()).hexdigest()[:16]}"
    folder = cache() / name
    if not _is_whole(folder, expected):
        with files.appearing(folder) as work:
            _fetch_into(work, base, expected)
    return folder


def fetch_weights(url: str, expected: str) -> pathlib.Path:
    """Returns the file of weights at a URL, which is fetched if it is not in the cache.

    Args:
      url: of the file.
      expected: its SHA-256, in hexadecimal.

    Raises:
      ValueError: if it is another file, or the arguments are no URL and no SHA-256.
      OSError: if the server can't be reached, or does not answer.
    """
    if not is_url(url) or not (isinstance(expected, str) and _DIGEST.fullmatch(expected)):
        raise ValueError(
            "`url` and `sha256` of metadata.json must be a URL of http or https and 64 hexadecimal "
            f"digits. Received: url={str(url)[:200]!r}, sha256={str(expected)[:100]!r}."
        )
    path = cache() / "weights" / expected / WEIGHTS
    if not (path.is_file() and files.sha256(path) == expected):
        with files.appearing(path.parent) as work:
            _download(_quote(url), work / WEIGHTS, expected)
    return path


def _split(url):
    """Returns the URL of a folder, and the SHA-256 that its fragment promises, or `None`."""
    parts = urllib.parse.urlsplit(url)
    expected = parts.fragment.removeprefix("sha256=")
    if parts.fragment and not _DIGEST.fullmatch(expected):
        raise ValueError(
            "The end of a URL must be #sha256= and 64 hexadecimal digits. "
            f"Received: #{parts.fragment[:100]}."
        )
    base = parts._replace(path=parts.path.rstrip("/"), fragment="")
    return _quote(base.geturl()), expected or None


def _quote(url):
    """Returns a URL in ASCII, without a fragment."""
    parts = urllib.parse.urlsplit(url)
    if not parts.hostname:
        raise ValueError(f"A URL must have the name of a host. Received: {url[:200]}.")
    path = urllib.parse.quote(parts.path, safe="/%:@!$&'()*+,;=~")
    query = urllib.parse.quote(parts.query, safe="/?%:@!$&'()*+,;=~")
    host = parts.netloc.encode("idna").decode() if not parts.netloc.isascii() else parts.netloc
    return parts._replace(netloc=host, path=path, query=query, fragment="").geturl()


def _inside(base, name):
    """Returns the URL of a file of a folder."""
    parts = urllib.parse.urlsplit(base)
    return parts._replace(path=f"{parts.path}/{name}").geturl()


def _last_part(base):
    """Returns the last part of a URL's path, as far as it may be part of a file's name."""
    return re.sub(r"[^\w.-]+", "_", urllib.parse.urlsplit(base).path.rpartition("/")[2])[:40]


def _is_whole(folder, expected):
    """Returns whether a bundle in the cache is what its sums say, and these are the expected."""
    try:
        text = (folder / SUMS).read_bytes()
        sums = _read_sums(text, folder)
        promised = expected is None or hashlib.sha256(text).hexdigest() == expected
        return promised and all(files.sha256(folder / name) == sums[name] for name in sums)
    except (OSError, ValueError):
        return False


def _read_sums(text, where):
    """Returns the SHA-256 of each of the files of a bundle."""
    lines = text.decode(errors="replace").splitlines()
    sums = {match[2]: match[1] for line in lines if (match := _LINE.fullmatch(line))}
    if missing := [name for name in FILES if name not in sums]:
        raise ValueError(
            f"{where} must be a bundle as `zoo.bundle` writes it: its {SUMS} must have a line for "
            f"{missing[0]}. Received: {len(sums)} files."
        )
    return {name: sums[name] for name in FILES}


def _fetch_into(work, base, expected):
    """Fetches the files of a bundle into a folder."""
    text = _read(_inside(base, SUMS), _MAX_SUMS)
    if expected is not None:
        _check(_inside(base, SUMS), hashlib.sha256(text).hexdigest(), expected)
    sums = _read_sums(text, base)
    for name, digest in sums.items():
        url = _inside(base, name)
        if name == WEIGHTS:
            _download(url, work / name, digest)
        else:
            content = _read(url, files.MAX_JSON_BYTES)
            _check(url, hashlib.sha256(content).hexdigest(), digest)
            (work / name).write_bytes(content)
    (work / SUMS).write_bytes(text)


def _check(url, received, expected):
    if received != expected:
        raise ValueError(
            f"{url} is damaged or was altered: its sha256 must be {expected}. Received: {received}."
        )


@contextlib.contextmanager
def _explain(url):
    """Makes of any error of a transfer one line that names the URL."""
    try:
        yield
    except Exception as error:  # Of several libraries; Keras raises plain ones.
        text = " ".join(str(error).split()) or type(error).__name__
        raise OSError(f"{url} could not be fetched. Received: {text[:300]}.") from error


def _read(url, most):
    """Returns a small file of a server."""
    parts, size, end = [], 0, time.monotonic() + 10 * SECONDS
    with _explain(url), urllib.request.urlopen(url, timeout=SECONDS) as answer:
        while part := answer.read1(1 << 16):
            parts.append(part)
            size += len(part)
            if size > most:
                raise ValueError(f"more than {most} bytes")
            if time.monotonic() > end:
                raise TimeoutError(f"{size} bytes in {10 * SECONDS} s")
        length = answer.headers.get("Content-Length")
        if length is not None and int(length) != size:
            raise ValueError(f"{size} of {length} bytes")
    return b"".join(parts)


def _download(url, path, expected):
    """Fetches a file of weights by Keras, with its bar of progress, and compares it."""
    with _explain(url), urllib.request.urlopen(url, timeout=SECONDS) as answer:
        # Else an answer might have no end: Keras takes whatever comes.
        length = answer.headers.get("Content-Length")
        if length is None or not 0 < int(length) <= read_weights.MAX_BYTES:
            raise ValueError(f"a Content-Length of {length}")
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(SECONDS)  # Keras has none.
    try:
        with _explain(url):
            keras.utils.get_file(path.name, url, cache_dir=str(path.parent), cache_subdir="")
    finally:
        socket.setdefaulttimeout(before)
    _check(url, files.sha256(path), expected)


def write_sums(folder: pathlib.Path) -> str:
    """Writes `SHA256SUMS` of the files in a folder; returns its own SHA-256."""
    names = sorted(path.name for path in folder.iterdir() if path.name != SUMS)
    files.write_text(
        folder / SUMS, "".join(f"{files.sha256(folder / name)}  {name}\n" for name in names)
    )
    return files.sha256(folder / SUMS)
