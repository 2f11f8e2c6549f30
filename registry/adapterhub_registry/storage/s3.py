"""Blobs in an S3 bucket, at any endpoint; clients read them there, and write large ones, through presigned URLs.

What passes through the registry goes on to the store as it comes, but for its last bytes, which follow only once all
are hashed: of a body that ends early a store keeps nothing. It is hashed once and moved once.

A store may take bytes whose checksum is wrong, and a presigned URL may be used again after the registry has hashed
what it put. So promotion copies only the very object that was hashed (`If-Match` its ETag), and hashes the copy once
more where the store gives it another ETag.

Parts of a large upload are objects of their own, not parts of an S3 multipart upload: which are there is one listing,
each may be put again, and there is no id that two servers could make twice. Promotion puts them together within the
store (`UploadPartCopy`), each one again only as it was hashed.
"""

import base64
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta
from itertools import islice
from typing import Any

import boto3
from botocore.client import Config
from botocore.exceptions import BotoCoreError, ClientError

from adapterhub_registry.storage.store import (
    CHUNK_BYTES,
    MIB,
    BlobCorrupt,
    BlobMissing,
    Stored,
    StoreUnreachable,
    Target,
    Watch,
    checked,
    measured,
    verify,
)

_ABSENT = frozenset(["404", "NoSuchKey", "NotFound", "NoSuchUpload"])
_CHANGED = frozenset(["412", "PreconditionFailed"])
_HEX_DIGITS = 64
_COPIES = 4
_REMOVED_AT_ONCE = 1000

_CONFIG = Config(
    signature_version="s3v4",
    s3={"addressing_style": "path"},
    # clients send a presigned PUT without boto3: only what is asked for is signed
    request_checksum_calculation="when_required",
    response_checksum_validation="when_required",
    retries={"max_attempts": 4, "mode": "standard"},
    connect_timeout=5,
    read_timeout=60,
    max_pool_connections=64,
)
_ONCE = Config(
    s3={"addressing_style": "path", "payload_signing_enabled": False},
    retries={"total_max_attempts": 1},
)
"""for bytes that go by once: they cannot be signed before, nor sent again"""


class S3Store:
    """A BlobStore in a bucket; address, keys and region come from boto3's own environment variables."""

    def __init__(self, bucket: str, prefix: str = "", *, public_url: str | None = None) -> None:
        """Open a bucket; `public_url` is where clients reach the store, if that is another address than ours."""
        self.bucket = bucket
        self.prefix = prefix.strip("/") + "/" if prefix.strip("/") else ""
        self._client: Any = boto3.client("s3", config=_CONFIG)
        self._once: Any = boto3.client("s3", config=_CONFIG.merge(_ONCE))
        self._signer: Any = self._client
        if public_url is not None:  # the host is part of what is signed
            self._signer = boto3.client("s3", config=_CONFIG, endpoint_url=public_url)

    def stage(self, upload: str, sha256: str, chunks: Iterable[bytes], size_bytes: int) -> None:
        """Keep bytes for an upload."""
        self._put(self._staged_key(upload, sha256), sha256, chunks, size_bytes)

    def stage_part(
        self, upload: str, sha256: str, number: int, chunks: Iterable[bytes], size_bytes: int
    ) -> None:
        """Keep a part of bytes for an upload."""
        with tempfile.TemporaryFile() as file:
            for chunk in measured(sha256, chunks, size_bytes):
                file.write(chunk)
            file.seek(0)
            key = self._part_key(upload, sha256, number)
            self._call("put_object", sha256, Key=key, Body=file, ContentLength=size_bytes)

    def staged_parts(self, upload: str, sha256: str) -> dict[int, int]:
        """How many bytes of which parts are staged."""
        below = f"staging/{upload}/{sha256}."
        found = {int(each["Key"].rpartition(".")[2]): each["Size"] for each in self._list(below)}
        return dict(sorted(found.items()))

    def staged(self, upload: str) -> Mapping[str, int]:
        """All that is staged for an upload: one listing."""
        whole: dict[str, int] = {}
        parts: dict[str, int] = {}
        for entry in self._list(f"staging/{upload}/"):
            sha256, _, number = entry["Key"].rpartition("/")[2].partition(".")
            if number:
                parts[sha256] = parts.get(sha256, 0) + entry["Size"]
            else:
                whole[sha256] = entry["Size"]
        return parts | whole

    def staged_bytes(self, upload: str, sha256: str) -> int | None:
        """How many bytes are staged."""
        try:
            return self._length(self._staged_key(upload, sha256), sha256)
        except BlobMissing:
            parts = self.staged_parts(upload, sha256)
            return sum(parts.values()) if parts else None

    def read_staged(self, upload: str, sha256: str) -> Iterator[bytes]:
        """The staged bytes."""
        try:
            return _chunks(self._call("get_object", sha256, Key=self._staged_key(upload, sha256)))
        except BlobMissing:
            keys = self._part_keys(upload, sha256)
            return (
                chunk
                for key in keys
                for chunk in _chunks(self._call("get_object", sha256, Key=key))
            )

    def promote(
        self, upload: str, sha256: str, size_bytes: int, watch: Watch | None = None
    ) -> None:
        """Hash staged bytes and make them a blob."""
        staged, key = self._staged_key(upload, sha256), self._key(sha256)
        try:
            answer = self._call("get_object", sha256, Key=staged)
        except BlobMissing:
            self._assemble(upload, sha256, size_bytes, watch)
            return
        try:
            verify(sha256, _chunks(answer), size_bytes, watch)
            copied = self._call(
                "copy_object",
                sha256,
                Key=key,
                CopySource={"Bucket": self.bucket, "Key": staged},
                CopySourceIfMatch=answer["ETag"],
            )
        except BlobCorrupt:
            self._call("delete_object", sha256, Key=staged)
            raise
        if copied["CopyObjectResult"].get("ETag") != answer["ETag"]:
            self._verify_copy(sha256, size_bytes)

    def put(self, sha256: str, chunks: Iterable[bytes], size_bytes: int) -> None:
        """Hash bytes and make them a blob."""
        self._put(self._key(sha256), sha256, chunks, size_bytes)

    def discard(self, upload: str) -> None:
        """Forget all that is staged for an upload."""
        self._remove_all(entry["Key"] for entry in self._list(f"staging/{upload}/"))

    def stale_uploads(self, before: datetime) -> Iterator[str]:
        """The uploads whose staged bytes are all older."""
        newest: dict[str, datetime] = {}
        for entry in self._list("staging/"):
            upload = entry["Key"].removeprefix(self.prefix).split("/")[1]
            newest[upload] = max(entry["LastModified"], newest.get(upload, entry["LastModified"]))
        yield from (upload for upload, moment in newest.items() if moment < before)

    def size_bytes(self, sha256: str) -> int:
        """The size of a blob."""
        return self._length(self._key(sha256), sha256)

    def read(self, sha256: str, start: int = 0, length: int | None = None) -> Iterator[bytes]:
        """The bytes of a blob."""
        if length == 0:
            self.size_bytes(sha256)
            return iter(())
        span: dict[str, str] = {}
        if start or length is not None:
            span["Range"] = f"bytes={start}-" + ("" if length is None else str(start + length - 1))
        return _chunks(self._call("get_object", sha256, Key=self._key(sha256), **span))

    def remove(self, sha256: str) -> None:
        """Forget a blob."""
        self._call("delete_object", sha256, Key=self._key(sha256))

    def blobs(self) -> Iterator[Stored]:
        """Every blob there is."""
        for entry in self._list("blobs/sha256/"):
            sha256 = entry["Key"].rpartition("/")[2]
            if len(sha256) == _HEX_DIGITS:
                yield Stored(sha256, entry["Size"], entry["LastModified"])

    def upload_target(
        self, upload: str, sha256: str, size_bytes: int, lifetime: timedelta
    ) -> Target | None:
        """A presigned PUT whose size and SHA-256 are signed with it."""
        url = self._signer.generate_presigned_url(
            "put_object",
            Params={
                "Bucket": self.bucket,
                "Key": self._staged_key(upload, sha256),
                "ContentLength": size_bytes,
                "ChecksumSHA256": _base64(sha256),
            },
            ExpiresIn=max(1, int(lifetime.total_seconds())),
        )
        headers = {"Content-Length": str(size_bytes), "x-amz-checksum-sha256": _base64(sha256)}
        return Target(url, headers)

    def part_target(
        self, upload: str, sha256: str, number: int, size_bytes: int, lifetime: timedelta
    ) -> Target | None:
        """A presigned PUT whose size is signed with it."""
        url = self._signer.generate_presigned_url(
            "put_object",
            Params={
                "Bucket": self.bucket,
                "Key": self._part_key(upload, sha256, number),
                "ContentLength": size_bytes,
            },
            ExpiresIn=max(1, int(lifetime.total_seconds())),
        )
        return Target(url, {"Content-Length": str(size_bytes)})

    def sweep(self, before: datetime) -> int:
        """Abort the puttings-together that were never ended."""
        removed = 0
        pages = self._client.get_paginator("list_multipart_uploads")
        with _translated("blobs/"):
            for page in pages.paginate(Bucket=self.bucket, Prefix=self.prefix + "blobs/sha256/"):
                for begun in page.get("Uploads", []):
                    if begun["Initiated"] < before:
                        self._abort(begun["Key"], begun["UploadId"])
                        removed += 1
        return removed

    def download_url(self, sha256: str, lifetime: timedelta) -> str | None:
        """A presigned GET."""
        url: str = self._signer.generate_presigned_url(
            "get_object",
            Params={
                "Bucket": self.bucket,
                "Key": self._key(sha256),
                "ResponseContentType": "application/octet-stream",
            },
            ExpiresIn=int(lifetime.total_seconds()),
        )
        return url

    def _put(self, key: str, sha256: str, chunks: Iterable[bytes], size_bytes: int) -> None:
        if size_bytes > MIB:
            self._pass_on(key, sha256, chunks, size_bytes)
            return
        with tempfile.SpooledTemporaryFile(MIB) as file:
            for chunk in checked(sha256, chunks, size_bytes):
                file.write(chunk)
            file.seek(0)
            self._call(
                "put_object",
                sha256,
                Key=key,
                Body=file,
                ContentLength=size_bytes,
                ChecksumSHA256=_base64(sha256),
            )

    def _pass_on(self, key: str, sha256: str, chunks: Iterable[bytes], size_bytes: int) -> None:
        """Send bytes to the store as they come, its last ones only once all are hashed."""
        body = _Body(checked(sha256, chunks, size_bytes))
        try:
            with _translated(sha256):
                self._once.put_object(
                    Bucket=self.bucket,
                    Key=key,
                    Body=body,
                    ContentLength=size_bytes,
                    ChecksumSHA256=_base64(sha256),
                )
        except StoreUnreachable:
            if body.failure is not None:
                raise body.failure from None
            raise

    def _assemble(self, upload: str, sha256: str, size_bytes: int, watch: Watch | None) -> None:
        """Hash parts in their order while the store copies those that are hashed, then make them one object."""
        parts, key = self._part_keys(upload, sha256), self._key(sha256)
        begun = self._call("create_multipart_upload", sha256, Key=key)["UploadId"]
        copies: list[tuple[str, Future[dict[str, Any]]]] = []

        def hashed(pool: ThreadPoolExecutor) -> Iterator[bytes]:
            for number, part in enumerate(parts, 1):
                answer = self._call("get_object", sha256, Key=part)
                yield from _chunks(answer)
                copy = pool.submit(
                    self._call,
                    "upload_part_copy",
                    sha256,
                    Key=key,
                    UploadId=begun,
                    PartNumber=number,
                    CopySource={"Bucket": self.bucket, "Key": part},
                    CopySourceIfMatch=answer["ETag"],
                )
                copies.append((answer["ETag"], copy))

        try:
            with ThreadPoolExecutor(_COPIES) as pool:
                verify(sha256, hashed(pool), size_bytes, watch)
            tags = [copy.result()["CopyPartResult"]["ETag"] for _, copy in copies]
            listed = [{"PartNumber": at, "ETag": tag} for at, tag in enumerate(tags, 1)]
            self._call(
                "complete_multipart_upload",
                sha256,
                Key=key,
                UploadId=begun,
                MultipartUpload={"Parts": listed},
            )
        except BaseException as error:
            self._abort(key, begun)
            if isinstance(error, BlobCorrupt):
                self._remove_all(parts)
            raise
        if tags != [tag for tag, _ in copies]:
            self._verify_copy(sha256, size_bytes)

    def _abort(self, key: str, begun: str) -> None:
        with suppress(BlobMissing):
            self._call("abort_multipart_upload", key, Key=key, UploadId=begun)

    def _remove_all(self, keys: Iterable[str]) -> None:
        for some in _batched(keys, _REMOVED_AT_ONCE):
            removed = {"Objects": [{"Key": key} for key in some], "Quiet": True}
            self._call("delete_objects", "", Delete=removed)

    def _part_keys(self, upload: str, sha256: str) -> list[str]:
        numbers = self.staged_parts(upload, sha256)
        if not numbers:
            raise BlobMissing(sha256)
        return [self._part_key(upload, sha256, number) for number in numbers]

    def _part_key(self, upload: str, sha256: str, number: int) -> str:
        return f"{self._staged_key(upload, sha256)}.{number:05d}"

    def _verify_copy(self, sha256: str, size_bytes: int) -> None:
        try:
            verify(sha256, self.read(sha256), size_bytes)
        except BlobCorrupt:
            self.remove(sha256)
            raise

    def _key(self, sha256: str) -> str:
        return f"{self.prefix}blobs/sha256/{sha256[:2]}/{sha256}"

    def _staged_key(self, upload: str, sha256: str) -> str:
        return f"{self.prefix}staging/{upload}/{sha256}"

    def _length(self, key: str, sha256: str) -> int:
        return int(self._call("head_object", sha256, Key=key)["ContentLength"])

    def _call(self, operation: str, sha256: str, **parameters: object) -> dict[str, Any]:
        call: Callable[..., dict[str, Any]] = getattr(self._client, operation)
        with _translated(sha256):
            return call(Bucket=self.bucket, **parameters)

    def _list(self, below: str) -> Iterator[dict[str, Any]]:
        pages = self._client.get_paginator("list_objects_v2")
        with _translated(below):
            for page in pages.paginate(Bucket=self.bucket, Prefix=self.prefix + below):
                yield from page.get("Contents", [])


class _Body:
    """What boto3 reads a body from, one piece behind what has come."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = _held_back(chunks)
        self.failure: Exception | None = None
        """what went wrong with the bytes, not with the store"""

    def read(self, _most: int = -1) -> bytes:
        """The next bytes, however many."""
        try:
            return next(self._chunks, b"")
        except Exception as error:
            self.failure = error
            raise


def _held_back(chunks: Iterator[bytes]) -> Iterator[bytes]:
    held = next(chunks, b"")
    for chunk in chunks:
        yield held
        held = chunk
    yield held


@contextmanager
def _translated(sha256: str) -> Iterator[None]:
    """The one border where boto3's errors become ours."""
    try:
        yield
    except ClientError as error:
        code = error.response.get("Error", {}).get("Code", "")
        if code in _ABSENT:
            raise BlobMissing(sha256) from error
        if code in _CHANGED:
            raise BlobCorrupt(sha256, "they were replaced while they were hashed") from error
        raise StoreUnreachable(f"The S3 store refuses: {code}.") from error
    except BotoCoreError as error:
        raise StoreUnreachable(f"The S3 store does not answer: {type(error).__name__}.") from error


def _chunks(answer: dict[str, Any]) -> Iterator[bytes]:
    body = answer["Body"]
    try:
        with _translated(""):
            yield from body.iter_chunks(CHUNK_BYTES)
    finally:
        body.close()


def _batched(keys: Iterable[str], count: int) -> Iterator[list[str]]:
    left = iter(keys)
    while some := list(islice(left, count)):
        yield some


def _base64(sha256: str) -> str:
    return base64.b64encode(bytes.fromhex(sha256)).decode()
