"""Where the hub is, who asks, and where files are kept: the caller's word, then the environment, then the file."""

import os
import re
import urllib.parse
from collections.abc import Mapping
from pathlib import Path

import msgspec

from adapterhub_client.errors import UsageError, WrongToken

DEFAULT_URL = "http://127.0.0.1:8400"
TOKEN = re.compile(r"[\x21-\x7e]+")


class Stored(msgspec.Struct, frozen=True):
    """What `login` remembers; readable by its owner only."""

    url: str | None = None
    tokens: dict[str, str] = {}


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """The effective settings of one call."""

    url: str
    token: str | None
    cache: Path

    def __repr__(self) -> str:
        return f"Settings(url={self.url!r}, token={'***' if self.token else None}, cache={str(self.cache)!r})"


def load(
    url: str | None = None,
    token: str | None = None,
    cache: str | os.PathLike[str] | None = None,
    environment: Mapping[str, str] | None = None,
) -> Settings:
    """Settle every setting: the argument, then ``ADAPTERHUB_URL``, ``_TOKEN`` or ``_CACHE``, then the file.

    A stored token is used only for the address it was stored for, and one from the environment not for another hub
    than the environment names.

    Raises:
        UsageError: The address is none.
        WrongToken: The token has characters that no token has.
    """
    environment = os.environ if environment is None else environment
    stored = read(environment)
    named = environment.get("ADAPTERHUB_URL")
    address = _address(url or named or stored.url or DEFAULT_URL)
    # a token in the environment is for the hub in the environment
    elsewhere = bool(named) and address != _address(str(named))
    secret = token or (None if elsewhere else environment.get("ADAPTERHUB_TOKEN"))
    folder = cache or environment.get("ADAPTERHUB_CACHE")
    return Settings(
        url=address,
        token=_secret(secret or stored.tokens.get(address)),
        cache=Path(folder) if folder else _home(environment, "XDG_CACHE_HOME", ".cache"),
    )


def config_file(environment: Mapping[str, str] | None = None) -> Path:
    """The file that `login` writes: ``$ADAPTERHUB_CONFIG`` or ``~/.config/adapterhub/client.json``."""
    environment = os.environ if environment is None else environment
    named = environment.get("ADAPTERHUB_CONFIG")
    return (
        Path(named) if named else _home(environment, "XDG_CONFIG_HOME", ".config") / "client.json"
    )


def read(environment: Mapping[str, str] | None = None) -> Stored:
    """Read what `login` stored; nothing when it never ran.

    Raises:
        UsageError: The file is damaged.
    """
    path = config_file(environment)
    if not path.is_file():
        return Stored()
    try:
        return msgspec.json.decode(path.read_bytes(), type=Stored)
    except msgspec.DecodeError as error:
        raise UsageError(
            f"'{path}' is damaged: {error}.", hint="delete it and `login` again"
        ) from error


def remember(url: str, token: str, environment: Mapping[str, str] | None = None) -> Path:
    """Keep an address and its token for later calls; the file is readable by its owner only."""
    stored = read(environment)
    path = config_file(environment)
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(msgspec.json.encode(Stored(url, {**stored.tokens, url: token})))
    unfinished.replace(path)
    return path


def _address(text: str) -> str:
    parts = urllib.parse.urlsplit(text)
    try:
        is_one = (
            parts.scheme in {"http", "https"} and bool(parts.hostname) and (parts.port or 1) > 0
        )
    except ValueError:  # the port
        is_one = False
    if not is_one:
        raise UsageError(
            f"{text!r} is no address of a hub.",
            hint="allowed: http://HOST:PORT or https://HOST",
        )
    return text.rstrip("/")


def _secret(token: str | None) -> str | None:
    if token is None or not token.strip():
        return None
    if not TOKEN.fullmatch(token.strip()):
        raise WrongToken("The token has characters that no token has.", hint="copy it again, whole")
    return token.strip()


def _home(environment: Mapping[str, str], variable: str, fallback: str) -> Path:
    parent = environment.get(variable)
    return (Path(parent) if parent else Path.home() / fallback) / "adapterhub"
