"""Accounts and repositories: who am I, create, delete, move, settings, branches and tags."""

import msgspec
from flask import Response

from adapterhub_registry import errors
from adapterhub_registry.domain.permission import reaches
from adapterhub_registry.huggingface import protocol
from adapterhub_registry.request import change, now, runtime, session, viewer
from adapterhub_registry.service import account, hosting, quota
from adapterhub_registry.service.repository import MAIN

blueprint = protocol.new_blueprint("administration")


class _Named(msgspec.Struct, frozen=True):
    name: str
    organization: str | None = None
    type: str | None = None
    visibility: str | None = None
    private: bool | None = None


class _Move(msgspec.Struct, frozen=True, rename="camel"):
    from_repo: str
    to_repo: str
    type: str | None = None


class _Settings(msgspec.Struct, frozen=True):
    gated: bool | str | None = None
    visibility: str | None = None
    private: bool | None = None


class _Branch(msgspec.Struct, frozen=True, rename="camel"):
    starting_point: str | None = None


class _Tag(msgspec.Struct, frozen=True):
    tag: str
    message: str | None = None


@blueprint.get("/api/whoami-v2")
def whoami() -> Response:
    """Whom the token speaks for."""
    found = account.whoami(session(), viewer())
    roles = {"reader": "read", "writer": "write", "admin": "admin"}
    orgs = [
        {"type": "org", "name": name, "fullname": name, "roleInOrg": roles[role]}
        for name, role in found.organizations.items()
        if name != found.name
    ]
    access = {
        "displayName": "token",
        "role": "write" if reaches(found.scopes, "write") else "read",
    }
    content = {
        "type": "user",
        "id": found.name,
        "name": found.name,
        "fullname": found.name,
        "email": None,
        "emailVerified": False,
        "isPro": False,
        "canPay": False,
        "periodEnd": None,
        "orgs": orgs,
        "auth": {"type": "access_token", "accessToken": access},
    }
    return protocol.answer(content)


@blueprint.post("/api/repos/create")
def create() -> Response:
    """Make a repository."""
    sent = protocol.body(_Named)
    repo_id = _repo_id(sent)
    private = _private(sent.visibility, private=sent.private) or False
    try:
        made = hosting.create(runtime(), viewer(), repo_id, private=private)
    except errors.RepositoryExists as error:
        response = protocol.refused(error)  # clients read the address of a repository they may use
        content = {"error": error.detail, "url": f"{protocol.address()}/{error.repo_id}"}
        response.set_data(msgspec.json.encode(content))
        return response
    url = f"{protocol.address()}/{made}"
    return protocol.answer({"url": url, "name": made, "id": made})


@blueprint.delete("/api/repos/delete")
def delete() -> Response:
    """Delete a repository."""
    repo_id = _repo_id(protocol.body(_Named))
    with change() as writing:
        hosting.remove(writing, viewer(), repo_id, now())
    return protocol.answer({})


@blueprint.post("/api/repos/move")
def move() -> Response:
    """Give a repository another id."""
    sent = protocol.body(_Move)
    _require_model(sent.type)
    with change() as writing:
        hosting.rename(writing, viewer(), sent.from_repo, sent.to_repo, now())
        quota.require_room(writing, runtime().settings, sent.to_repo.partition("/")[0])
    return protocol.answer({})


@blueprint.put("/api/models/<namespace>/<name>/settings")
def settings(namespace: str, name: str) -> Response:
    """Change who may see a repository, or have its files."""
    sent = protocol.body(_Settings)
    gated = "open" if sent.gated is False else sent.gated
    if gated is True:
        raise errors.Unprocessable("`gated` is 'auto', 'manual' or false.")
    wanted = hosting.Settings(private=_private(sent.visibility, private=sent.private), gated=gated)
    with change() as writing:
        view = hosting.change(writing, viewer(), f"{namespace}/{name}", wanted, now())
        content = {"private": view.private, "gated": view.gated or False}
    return protocol.answer(content)


@blueprint.post("/api/models/<namespace>/<name>/branch/<path:branch>")
def add_branch(namespace: str, name: str, branch: str) -> Response:
    """Make a branch."""
    sent = protocol.body(_Branch) if protocol.has_body() else _Branch()
    place = (f"{namespace}/{name}", sent.starting_point or MAIN)
    with change() as writing:
        hosting.add_ref(writing, viewer(), place, ("branch", branch), now())
    return protocol.answer({}, 201)


@blueprint.delete("/api/models/<namespace>/<name>/branch/<path:branch>")
def remove_branch(namespace: str, name: str, branch: str) -> Response:
    """Delete a branch."""
    with change() as writing:
        hosting.remove_ref(writing, viewer(), f"{namespace}/{name}", ("branch", branch), now())
    return protocol.answer({})


@blueprint.post("/api/models/<namespace>/<name>/tag/<path:revision>")
def add_tag(namespace: str, name: str, revision: str) -> Response:
    """Make a tag."""
    sent = protocol.body(_Tag)
    place = (f"{namespace}/{name}", revision)
    with change() as writing:
        hosting.add_ref(writing, viewer(), place, ("tag", sent.tag), now())
    return protocol.answer({}, 201)


@blueprint.delete("/api/models/<namespace>/<name>/tag/<path:tag>")
def remove_tag(namespace: str, name: str, tag: str) -> Response:
    """Delete a tag."""
    with change() as writing:
        hosting.remove_ref(writing, viewer(), f"{namespace}/{name}", ("tag", tag), now())
    return protocol.answer({})


def _repo_id(sent: _Named) -> str:
    """The id that is meant; without an organization it is the account's own."""
    _require_model(sent.type)
    if "/" in sent.name:
        return sent.name
    owner = sent.organization or viewer().name
    if owner is None:
        raise errors.TokenRequired
    return f"{owner}/{sent.name}"


def _require_model(kind: str | None) -> None:
    if kind not in {None, "model"}:
        raise errors.NotOffered(f"This registry keeps adapters only: a {kind} cannot be made here.")


def _private(visibility: str | None, *, private: bool | None) -> bool | None:
    if visibility not in {None, "private", "public"}:
        raise errors.Unprocessable(f"`visibility` is 'private' or 'public', not {visibility!r}.")
    return private if visibility is None else visibility == "private"
