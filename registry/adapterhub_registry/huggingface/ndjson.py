"""Read a commit line by line without ever holding a file in memory.

A line is a JSON object; a file lies in it as base64, in one string named `content`. That string is decoded to the disk
while it arrives, and what is left of the line is small.
"""

import base64
import binascii
import hashlib
import re
import tempfile
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack
from typing import IO, Any

import msgspec

from adapterhub_registry.errors import BadRequest, TooLarge
from adapterhub_registry.storage.store import CHUNK_BYTES

_CONTENT = re.compile(rb'"content"\s*:\s*"')
_MARK_BYTES = 64
_LINE_BYTES = 1024 * 1024
_IN_MEMORY_BYTES = 256 * 1024


class Decoded(msgspec.Struct, frozen=True):
    """The bytes of a file of a commit."""

    file: IO[bytes]
    sha256: str
    size_bytes: int

    def chunks(self) -> Iterator[bytes]:
        """The bytes from the start."""
        self.file.seek(0)
        while chunk := self.file.read(CHUNK_BYTES):
            yield chunk


class Line(msgspec.Struct, frozen=True):
    """A line without its content, and the content where it had one; it is there until the next line is read."""

    key: str
    value: dict[str, Any]
    content: Decoded | None


def lines(read: Callable[[int], bytes], most_bytes: int) -> Generator[Line, None, None]:
    """Every line of a commit.

    Raises:
        BadRequest: A line that is no operation.
        TooLarge: A file has more than `most_bytes`, or a line is too long without its file.
    """
    source = _Source(read)
    while True:
        text, content = _line(source, most_bytes)
        with ExitStack() as stack:
            if content is not None:
                stack.enter_context(content.file)
            if text.strip():
                yield _operation(text, content)
        if source.is_at_end and not source.held:
            return


class _Source:
    """Bytes that can be looked at before they are taken."""

    def __init__(self, read: Callable[[int], bytes]) -> None:
        self._read = read
        self.held = b""
        self.is_at_end = False

    def more(self) -> bool:
        chunk = self._read(CHUNK_BYTES)
        self.is_at_end = not chunk
        self.held += chunk
        return not self.is_at_end

    def take(self, length: int) -> bytes:
        taken, self.held = self.held[:length], self.held[length:]
        return taken


def _line(source: _Source, most_bytes: int) -> tuple[bytes, Decoded | None]:
    text, content = b"", None
    while True:
        end = source.held.find(b"\n")
        mark = _CONTENT.search(source.held, 0, len(source.held) if end < 0 else end)
        if mark is not None:
            if content is not None:
                content.file.close()
                raise BadRequest("A line of the commit has two contents.")
            text += source.take(mark.end())
            content = _decoded(source, most_bytes)
        elif end >= 0:
            return text + source.take(end + 1), content
        else:
            text += source.take(max(0, len(source.held) - _MARK_BYTES))
            if len(text) > _LINE_BYTES:
                raise TooLarge(f"A line of the commit is longer than {_LINE_BYTES} bytes.")
            if not source.more():
                return text + source.take(len(source.held)), content


def _decoded(source: _Source, most_bytes: int) -> Decoded:
    """Decode up to the closing quote, which is left."""
    # closed by whoever reads the lines; here only where decoding fails
    file = tempfile.SpooledTemporaryFile(_IN_MEMORY_BYTES)  # noqa: SIM115
    digest, size_bytes = hashlib.sha256(), 0
    try:
        for content in _pieces(source):
            size_bytes += len(content)
            _require_room(size_bytes, most_bytes)
            digest.update(content)
            file.write(content)
    except BaseException:
        file.close()
        raise
    return Decoded(file, digest.hexdigest(), size_bytes)


def _pieces(source: _Source) -> Iterator[bytes]:
    is_open = True
    while is_open:
        quote = source.held.find(b'"')
        is_open = quote < 0
        encoded = source.take(len(source.held) // 4 * 4 if is_open else quote)
        try:
            yield base64.b64decode(encoded, validate=True)
        except (binascii.Error, ValueError) as error:
            raise BadRequest(f"The content of a file is no base64: {error}.") from error
        if is_open and not source.more():
            raise BadRequest("The commit ends within a file.")


def _require_room(size_bytes: int, most_bytes: int) -> None:
    if size_bytes > most_bytes:
        raise TooLarge(f"A file has more than {most_bytes} bytes.")


def _operation(text: bytes, content: Decoded | None) -> Line:
    try:
        found = msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError) as error:
        raise BadRequest(f"A line of the commit is no JSON: {error}.") from error
    key, value = (found.get("key"), found.get("value")) if isinstance(found, dict) else (None, None)
    if not isinstance(key, str) or not isinstance(value, dict):
        raise BadRequest("A line of the commit is no object with `key` and `value`.")
    return Line(key, value, content)
