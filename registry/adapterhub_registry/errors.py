"""What the registry refuses, with the status and the stable code the outside sees.

RegistryError
├── BadRequest 400 ── MalformedBody
├── Unauthorized 401
│   ├── TokenRequired               nobody is signed in
│   ├── WrongToken                  unknown, expired or revoked
│   └── WrongPassword               no account has this name and this password
├── Forbidden 403
│   ├── ForeignRequest              a page of another site sent it
│   ├── TokenElsewhere              the token is for other organizations
│   ├── NotOperator                 only administrators of the registry may
│   ├── MissingScope                the token does not reach this far
│   ├── MissingRole                 the account may not do this in that organization
│   └── Gated                       the files are for members of the organization
├── NotFound 404
│   ├── AdapterNotFound             with the nearest names
│   │   └── OnlyDraft               a repository that no version has come of
│   ├── VersionNotFound
│   ├── {Repository,Revision,Entry}NotFound                 as Hugging Face clients see adapters
│   └── {Base,Blob,Manifest,Alias,Organization,Account,Token,Invitation,Upload,Route}NotFound
├── MethodNotAllowed 405
├── Conflict 409
│   ├── Ambiguous, NoVariantForBase, NoVariantForConfig     with the candidates
│   ├── NotMirrored                 a reference hub lists it; its weights are not here
│   ├── NameTaken, LastAdmin
│   ├── NameRetired, NameMoved      a name that was deleted, or went to another organization
│   ├── DependedOn                  something public pins it
│   ├── PrivateMembers              everyone can read the composition, not its members
│   ├── RepositoryExists, RefTaken, RefFixed
│   └── UploadIncomplete            blobs are still missing
├── Yanked, Deleted 410
├── StaleParent 412                 a commit on what is no longer the newest
├── TooLarge 413
│   └── QuotaExceeded               the organization has no room
├── UnsupportedMediaType 415
├── RangeNotSatisfiable 416
├── Unprocessable 422
│   ├── InvalidRequest              a body or a query that does not fit its schema
│   ├── MalformedName               a reference or a name outside the grammar
│   ├── PasswordRefused             too short, or the account's own name
│   ├── ManifestRefused             every broken rule is listed
│   ├── BundleRefused               a file of another registry that is not what was signed
│   └── ContentRefused              bytes that are not what they claim
├── TooManyRequests 429             with the seconds to wait
├── InternalError 500
├── NotOffered 501                  a part of the Hugging Face protocol that is not for adapters
└── Unavailable 503
    ├── NotReady                    what `/readyz` found
    └── StoreFailed                 the blob store fails, or lost bytes
"""

import math
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import ClassVar

from adapterhub_client.wire import Problem, Recorded, Scope, Tombstone, Version

_RETRY_SECONDS = 5


class RegistryError(Exception):
    """A refusal; a class fixes its status and code, an instance its sentence."""

    status: ClassVar[int] = 500
    code: ClassVar[str] = "internal_error"
    candidates: Sequence[Version] = ()
    nearest: Sequence[str] = ()
    reasons: Sequence[str] = ()
    recorded: Sequence[Recorded] = ()
    tombstone: Tombstone | None = None

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail

    @property
    def headers(self) -> Mapping[str, str]:
        """What the answer says beside its body."""
        return {}

    @property
    def problem(self) -> Problem:
        """The same, as it travels."""
        return Problem(
            title=HTTPStatus(self.status).phrase,
            status=self.status,
            detail=self.detail,
            code=self.code,
            candidates=list(self.candidates),
            nearest=list(self.nearest),
            reasons=list(self.reasons),
            recorded=list(self.recorded),
            tombstone=self.tombstone,
        )


class BadRequest(RegistryError):
    """The request cannot be read."""

    status = 400
    code = "bad_request"


class MalformedBody(BadRequest):
    """The body is not JSON."""

    code = "malformed_body"

    def __init__(self, fault: str) -> None:
        super().__init__(f"The body is not JSON: {fault}.")


class Unauthorized(RegistryError):
    """Who is asking is not known."""

    status = 401
    code = "unauthorized"

    @property
    def headers(self) -> Mapping[str, str]:
        """How to say who one is."""
        return {"WWW-Authenticate": 'Bearer realm="adapterhub"'}


class TokenRequired(Unauthorized):
    """This needs a token."""

    code = "token_required"

    def __init__(self) -> None:
        super().__init__("This needs a token; send it as `Authorization: Bearer ahub_...`.")


class WrongToken(Unauthorized):
    """The token is unknown, expired or revoked: which of them is not said."""

    code = "wrong_token"

    def __init__(self) -> None:
        super().__init__("The token is unknown, expired or revoked.")


class WrongPassword(Unauthorized):
    """Name and password do not go together: which of them is wrong is not said."""

    code = "wrong_password"

    def __init__(self) -> None:
        super().__init__("No account has this name and this password.")


class Forbidden(RegistryError):
    """Who is asking may not do this."""

    status = 403
    code = "forbidden"


class MissingScope(Forbidden):
    """The token is good, but does not reach this far."""

    code = "missing_scope"

    def __init__(self, scope: Scope) -> None:
        super().__init__(f"The token lacks the scope {scope!r}.")
        self.scope = scope


class ForeignRequest(Forbidden):
    """A change that a page of another site asks for, with the cookie of whoever reads that page."""

    code = "foreign_request"

    def __init__(self) -> None:
        super().__init__("The request does not come from a page of this registry.")


class TokenElsewhere(Forbidden):
    """The token is for some organizations, and this is not one of them."""

    code = "token_elsewhere"

    def __init__(self, organization: str, organizations: Sequence[str]) -> None:
        listed = ", ".join(map(repr, organizations))
        super().__init__(f"The token is for {listed} only, not for {organization!r}.")


class NotOperator(Forbidden):
    """Only administrators of the whole registry may."""

    code = "not_operator"

    def __init__(self) -> None:
        super().__init__("This is for administrators of the registry.")


class MissingRole(Forbidden):
    """The account lacks a role in the organization."""

    code = "missing_role"

    def __init__(self, organization: str, role: str) -> None:
        super().__init__(f"This needs the role {role!r} in the organization {organization!r}.")
        self.organization, self.role = organization, role


class Gated(Forbidden):
    """Everyone may see the repository; its files are for members of its organization."""

    code = "gated"

    def __init__(self, repo_id: str, organization: str) -> None:
        super().__init__(
            f"The files of {repo_id!r} are for members of the organization {organization!r}: "
            "ask one of its admins to be taken in."
        )
        self.repo_id, self.organization = repo_id, organization


class NotFound(RegistryError):
    """Nothing has this name, or it is private and not for you."""

    status = 404
    code = "not_found"


class RouteNotFound(NotFound):
    """No page and no endpoint has this address."""

    code = "route_not_found"


class AdapterNotFound(NotFound):
    """No adapter has this name."""

    code = "adapter_not_found"

    def __init__(self, name: str, nearest: Sequence[str] = ()) -> None:
        super().__init__(f"There is no adapter named {name!r}.")
        self.name, self.nearest = name, tuple(nearest)


class OnlyDraft(AdapterNotFound):
    """There is a repository of this name, but no version has come of it yet."""

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(name)
        self.detail = f"{name!r} has no version yet: {reason}."


class VersionNotFound(NotFound):
    """The adapter has no such version."""

    code = "version_not_found"

    def __init__(self, name: str, version: str, candidates: Sequence[Version] = ()) -> None:
        super().__init__(f"{name!r} has no version {version!r}.")
        self.candidates = tuple(candidates)


class BaseNotFound(NotFound):
    """No adapter here has this base model."""

    code = "base_not_found"

    def __init__(self, base: str) -> None:
        super().__init__(f"No adapter here has the base model {base!r}.")


class BlobNotFound(NotFound):
    """No version that you may read has these bytes."""

    code = "blob_not_found"

    def __init__(self, sha256: str) -> None:
        super().__init__(f"There is no blob {sha256!r}.")


class ManifestNotFound(NotFound):
    """No version that you may read has this digest."""

    code = "manifest_not_found"

    def __init__(self, digest: str) -> None:
        super().__init__(f"There is no manifest {digest!r}.")


class AliasNotFound(NotFound):
    """The adapter has no such alias."""

    code = "alias_not_found"

    def __init__(self, name: str, alias: str) -> None:
        super().__init__(f"{name!r} has no alias {alias!r}.")


class OrganizationNotFound(NotFound):
    """No organization has this name."""

    code = "org_not_found"

    def __init__(self, name: str) -> None:
        super().__init__(f"There is no organization named {name!r}.")


class AccountNotFound(NotFound):
    """No account has this name."""

    code = "account_not_found"

    def __init__(self, name: str) -> None:
        super().__init__(f"There is no account named {name!r}.")


class TokenNotFound(NotFound):
    """You have no such token."""

    code = "token_not_found"

    def __init__(self, token_id: int) -> None:
        super().__init__(f"You have no token {token_id}.")


class InvitationNotFound(NotFound):
    """No invitation has this id or this secret, or it has been accepted, revoked or expired."""

    code = "invitation_not_found"

    def __init__(self) -> None:
        super().__init__(
            "There is no such invitation, or it was accepted or revoked, or it has expired."
        )


class UploadNotFound(NotFound):
    """You have no such upload, or it has expired."""

    code = "upload_not_found"

    def __init__(self, upload_id: str) -> None:
        super().__init__(f"You have no upload {upload_id!r}, or it has expired.")


class RepositoryNotFound(NotFound):
    """No repository has this id."""

    code = "repository_not_found"

    def __init__(self, repo_id: str) -> None:
        super().__init__(f"Repository not found: {repo_id!r}.")
        self.repo_id = repo_id


class RevisionNotFound(NotFound):
    """The repository has no such branch, tag or commit."""

    code = "revision_not_found"

    def __init__(self, repo_id: str, revision: str, reason: str = "") -> None:
        super().__init__(f"Revision not found: {revision!r} in {repo_id!r}. {reason}".rstrip())
        self.repo_id, self.revision = repo_id, revision


class EntryNotFound(NotFound):
    """The revision has no such file or folder."""

    code = "entry_not_found"

    def __init__(self, path: str, commit: str) -> None:
        super().__init__(f"Entry not found: {path!r}.")
        self.path, self.commit = path, commit


class MethodNotAllowed(RegistryError):
    """The address exists, but not for this method."""

    status = 405
    code = "method_not_allowed"


class Conflict(RegistryError):
    """The state of the registry forbids it."""

    status = 409
    code = "conflict"


class Ambiguous(Conflict):
    """Several versions answer."""

    code = "ambiguous"

    def __init__(self, name: str, candidates: Sequence[Version]) -> None:
        super().__init__(
            f"{len(candidates)} variants of {name!r} answer; say which base and which config."
        )
        self.candidates = tuple(candidates)


class NoVariantForBase(Conflict):
    """The adapter exists, but not for this base model."""

    code = "no_variant_for_base"

    def __init__(self, name: str, base: str, candidates: Sequence[Version]) -> None:
        super().__init__(f"{name!r} has no variant for the base model {base!r}.")
        self.candidates = tuple(candidates)


class NoVariantForConfig(Conflict):
    """The adapter exists for this base, but not with this config."""

    code = "no_variant_for_config"

    def __init__(self, name: str, config: str, candidates: Sequence[Version]) -> None:
        super().__init__(f"{name!r} has no variant with the config {config!r}.")
        self.candidates = tuple(candidates)


class NotMirrored(Conflict):
    """A reference hub lists what was asked for, and its weights are not here."""

    code = "not_mirrored"

    def __init__(self, name: str, recorded: Sequence[Recorded], shown: int) -> None:
        first = next((each for each in recorded if each.is_default), recorded[0])
        super().__init__(
            f"{name!r} is recorded here without its weights: {len(recorded)} versions that its reference hub lists "
            f"fit, and none has been mirrored. The weights of {first.name!r} for {first.base!r} are at {first.url}."
        )
        self.recorded = tuple(recorded[:shown])


class NameTaken(Conflict):
    """An account or an organization has this name already."""

    code = "name_taken"

    def __init__(self, name: str) -> None:
        super().__init__(f"The name {name!r} is taken.")


class NameRetired(Conflict):
    """An adapter of this name was deleted."""

    code = "name_retired"

    def __init__(self, name: str) -> None:
        super().__init__(f"{name!r} was deleted, and a name is never used again.")


class NameMoved(Conflict):
    """The adapter of this name belongs to another organization now."""

    code = "name_moved"

    def __init__(self, name: str, now: str) -> None:
        super().__init__(f"{name!r} was transferred and is {now!r} now; publish it there.")


class DependedOn(Conflict):
    """Everyone can read something that pins it."""

    code = "depended_on"

    def __init__(self, name: str, verb: str, dependants: Sequence[Version]) -> None:
        super().__init__(f"{name!r} cannot be {verb}: {len(dependants)} public versions pin it.")
        self.candidates = tuple(dependants)
        self.reasons = tuple(f"pinned by {each.reference}:{each.number}" for each in dependants)


class PrivateMembers(Conflict):
    """A composition that everyone can read must not pin what they cannot."""

    code = "private_members"

    def __init__(self, name: str, members: Sequence[str]) -> None:
        super().__init__(f"{name!r} cannot be public: it pins {', '.join(members)}, not public.")
        self.reasons = tuple(f"private: {member}" for member in members)


class LastAdmin(Conflict):
    """An organization keeps at least one admin."""

    code = "last_admin"

    def __init__(self, organization: str, account: str) -> None:
        super().__init__(f"{account!r} is the last admin of {organization!r}.")


class RepositoryExists(Conflict):
    """There is a repository of this id."""

    code = "repository_exists"

    def __init__(self, repo_id: str) -> None:
        super().__init__(f"You already created this repository, or somebody did: {repo_id!r}.")
        self.repo_id = repo_id


class RefTaken(Conflict):
    """There is a branch or a tag of this name."""

    code = "ref_taken"

    def __init__(self, kind: str, name: str) -> None:
        super().__init__(f"There is already a {kind} named {name!r}.")
        self.kind, self.name = kind, name


class RefFixed(Conflict):
    """Branches and tags that show versions and variants follow the catalogue."""

    code = "ref_fixed"


class UploadIncomplete(Conflict):
    """A commit came before its blobs."""

    code = "upload_incomplete"

    def __init__(self, missing: Sequence[str]) -> None:
        super().__init__(f"{len(missing)} blobs have not been uploaded.")
        self.reasons = tuple(f"missing: {sha256}" for sha256 in missing)


class PublicAlready(Conflict):
    """A version meant to be private, for an adapter that everyone can read."""

    code = "public_already"

    def __init__(self, name: str) -> None:
        super().__init__(f"{name!r} is public, so no version of it can be private.")


class Yanked(RegistryError):
    """What would answer was withdrawn; exact pins by number or digest still work."""

    status = 410
    code = "yanked"

    def __init__(self, name: str, candidates: Sequence[Version]) -> None:
        super().__init__(f"Every version of {name!r} that would answer has been yanked.")
        self.candidates = tuple(candidates)


class Deleted(RegistryError):
    """It was here once; what is known of it is in the tombstone."""

    status = 410
    code = "deleted"

    def __init__(self, tombstone: Tombstone) -> None:
        number = "" if tombstone.number is None else f":{tombstone.number}"
        by = "" if tombstone.deleted_by is None else f" by {tombstone.deleted_by!r}"
        super().__init__(
            f"'{tombstone.reference}{number}' was deleted on {tombstone.deleted_at[:10]}{by}: {tombstone.reason}"
        )
        self.tombstone = tombstone


class StaleParent(RegistryError):
    """The branch has moved on since the commit was prepared."""

    status = 412
    code = "stale_parent"

    def __init__(self, branch: str, head: str) -> None:
        super().__init__(
            f"The branch {branch!r} has moved on: it is at {head}. Commit on top of it."
        )
        self.branch, self.head = branch, head


class TooLarge(RegistryError):
    """The body is larger than allowed."""

    status = 413
    code = "too_large"


class QuotaExceeded(TooLarge):
    """The organization has no room for it."""

    code = "quota_exceeded"


class UnsupportedMediaType(RegistryError):
    """The body must be JSON."""

    status = 415
    code = "unsupported_media_type"

    def __init__(self, sent: str) -> None:
        super().__init__(f"The body must be `application/json`, not {sent!r}.")


class RangeNotSatisfiable(RegistryError):
    """The range lies outside the bytes there are."""

    status = 416
    code = "range_not_satisfiable"

    def __init__(self, size_bytes: int) -> None:
        super().__init__(f"The range lies outside the {size_bytes} bytes there are.")
        self.size_bytes = size_bytes

    @property
    def headers(self) -> Mapping[str, str]:
        """How many bytes there are."""
        return {"Content-Range": f"bytes */{self.size_bytes}"}


class Unprocessable(RegistryError):
    """The request can be read, but not accepted."""

    status = 422
    code = "unprocessable"


class InvalidRequest(Unprocessable):
    """A body or a query does not fit its schema."""

    code = "invalid_request"


class PasswordRefused(Unprocessable):
    """A password that is not taken; the sentence says why."""

    code = "password_refused"


class MalformedName(Unprocessable):
    """A reference or a name is outside the grammar."""

    code = "malformed_name"


class ManifestRefused(Unprocessable):
    """The manifest breaks rules; all of them are listed."""

    code = "manifest_refused"

    def __init__(self, reasons: Sequence[str]) -> None:
        super().__init__("The manifest is refused: " + "; ".join(reasons) + ".")
        self.reasons = tuple(reasons)


class BundleRefused(Unprocessable):
    """A bundle is not what its signer signed, or does not fit here; nothing was written."""

    code = "bundle_refused"


class ContentRefused(Unprocessable):
    """Bytes are not what they claim to be; nothing was kept."""

    code = "content_refused"

    def __init__(self, reasons: Sequence[str]) -> None:
        super().__init__("The content is refused: " + "; ".join(reasons) + ".")
        self.reasons = tuple(reasons)


class TooManyRequests(RegistryError):
    """It was asked for too often; `retry_seconds` is how long to wait."""

    status = 429
    code = "too_many_requests"

    def __init__(self, what: str, retry_seconds: float) -> None:
        self.retry_seconds = max(1, math.ceil(retry_seconds))
        super().__init__(f"Too many {what}: try again in {self.retry_seconds} s.")

    @property
    def headers(self) -> Mapping[str, str]:
        """When to try again."""
        return {"Retry-After": str(self.retry_seconds)}


class InternalError(RegistryError):
    """A fault of the registry; the log has it under the request id."""

    def __init__(self) -> None:
        super().__init__("The registry failed; its log tells more under the request id.")


class NotOffered(RegistryError):
    """A part of the protocol that this registry does not have, and says so."""

    status = 501
    code = "not_offered"


class Unavailable(RegistryError):
    """Something the registry needs does not answer."""

    status = 503
    code = "unavailable"

    @property
    def headers(self) -> Mapping[str, str]:
        """When to try again."""
        return {"Retry-After": str(_RETRY_SECONDS)}


class NotReady(Unavailable):
    """This server cannot answer requests now; `reasons` say what it lacks."""

    code = "not_ready"

    def __init__(self, reasons: Sequence[str]) -> None:
        super().__init__("The registry is not ready.")
        self.reasons = tuple(reasons)


class StoreFailed(Unavailable):
    """The blob store does not answer, or does not have the bytes it should have."""

    code = "store_failed"
