"""Invitations, who manages accounts, who has how much room, and who reads the audit log."""

import msgspec
import pytest
from sqlalchemy import select
from tests.factories import make_files, make_manifest
from tests.registry.conftest import Hub, ok, problem

from adapterhub_client import wire
from adapterhub_registry.models import Account, Membership
from adapterhub_registry.settings import Settings

SECRET = "correct horse battery"


@pytest.fixture
def lab(hub: Hub) -> str:
    """The token of the admin of the organization `lab`."""
    token = hub.token("ada")
    hub.call("POST", "/orgs", token, body={"name": "lab"})
    return token


@pytest.fixture
def operator(hub: Hub) -> str:
    token = hub.token("root")
    with hub.runtime.database.writing() as session:
        session.scalars(select(Account).filter_by(name="root")).one().is_admin = True
    return token


def invite(hub: Hub, token: str, role: str = "writer", **more: object) -> wire.Invitation:
    body = {"label": "bob of the lab", "role": role, **more}
    return ok(hub.call("POST", "/orgs/lab/invitations", token, body=body), wire.Invitation)


def accept(hub: Hub, invitation: wire.Invitation, token: str | None = None, **more: str):
    return hub.call(
        "POST", "/invitations/accept", token, body={"secret": invitation.secret, **more}
    )


def test_an_invitation_makes_an_account_and_a_member(hub: Hub, lab: str) -> None:
    made = invite(hub, lab)

    joined = ok(accept(hub, made, name="bob", password=SECRET), wire.Account)

    assert (joined.name, joined.organizations) == ("bob", {"bob": "admin", "lab": "writer"})
    assert made.url == f"http://localhost/join?invitation={made.secret}"
    signed = hub.call("POST", "/sign-in", body={"label": "x", "name": "bob", "password": SECRET})
    assert signed.status_code == 201


def test_an_invitation_is_used_once(hub: Hub, lab: str) -> None:
    made = invite(hub, lab)
    accept(hub, made, name="bob", password=SECRET)

    again = accept(hub, made, name="carl", password=SECRET)

    assert (again.status_code, problem(again).code) == (404, "invitation_not_found")
    assert ok(hub.get("/orgs/lab/invitations", lab), list[wire.Invitation]) == []


def test_whoever_has_an_account_accepts_with_it(hub: Hub, lab: str) -> None:
    bob = hub.token("bob", "write")

    joined = ok(accept(hub, invite(hub, lab, "reader"), bob), wire.Account)

    assert joined.organizations == {"bob": "admin", "lab": "reader"}


def test_a_higher_role_stays(hub: Hub, lab: str) -> None:
    accept(hub, invite(hub, lab, "reader"), lab)

    assert ok(hub.get("/orgs/lab", lab), wire.Organization).members == {"ada": "admin"}


@pytest.mark.parametrize(
    ("more", "code"),
    [
        ({}, "token_required"),
        ({"name": "bob"}, "token_required"),
        ({"name": "ada", "password": SECRET}, "name_taken"),
        ({"name": "Bob!", "password": SECRET}, "malformed_name"),
        ({"name": "bob", "password": "short"}, "password_refused"),
    ],
)
def test_an_acceptance_that_fails_leaves_the_invitation(
    hub: Hub, lab: str, more: dict[str, str], code: str
) -> None:
    made = invite(hub, lab)

    refused = accept(hub, made, **more)

    assert problem(refused).code == code
    assert len(ok(hub.get("/orgs/lab/invitations", lab), list[wire.Invitation])) == 1
    with hub.runtime.database.reading() as session:
        assert session.scalar(select(Account).filter_by(name="bob")) is None


def test_an_invitation_ends_by_time_or_when_it_is_revoked(hub: Hub, lab: str) -> None:
    late, revoked = invite(hub, lab, expires_days=1), invite(hub, lab)
    assert hub.call("DELETE", f"/orgs/lab/invitations/{revoked.id}", lab).status_code == 204
    hub.clock.move(days=1)

    refused = [accept(hub, each, name="bob", password=SECRET) for each in (late, revoked)]

    assert [problem(each).code for each in refused] == ["invitation_not_found"] * 2
    again = hub.call("DELETE", f"/orgs/lab/invitations/{revoked.id}", lab)
    assert problem(again).code == "invitation_not_found"


@pytest.mark.parametrize("role", ["reader", "writer"])
def test_only_admins_invite(hub: Hub, lab: str, role: str) -> None:
    bob = hub.token("bob")
    hub.call("PUT", "/orgs/lab/members/bob", lab, body={"role": role})

    refused = hub.call("POST", "/orgs/lab/invitations", bob, body={"label": "carl"})

    assert (refused.status_code, problem(refused).code) == (403, "missing_role")
    assert hub.get("/orgs/lab/invitations", bob).status_code == 403


def test_a_secret_of_an_invitation_is_shown_once(hub: Hub, lab: str) -> None:
    made = invite(hub, lab)

    listed = ok(hub.get("/orgs/lab/invitations", lab), list[wire.Invitation])

    assert (made.secret or "").startswith("ahub_invite_")
    assert [(each.id, each.secret, each.url) for each in listed] == [(made.id, None, None)]


def test_everyone_may_leave_but_the_last_admin(hub: Hub, lab: str) -> None:
    bob = hub.token("bob")
    accept(hub, invite(hub, lab), bob)

    left = hub.call("PUT", "/orgs/lab/members/bob", bob, body={"role": None})
    last = hub.call("PUT", "/orgs/lab/members/ada", lab, body={"role": None})

    assert left.status_code == 200
    assert problem(last).code == "last_admin"
    with hub.runtime.database.reading() as session:
        assert len(session.scalars(select(Membership)).all()) == 3


def test_an_operator_invites_into_the_registry_alone(hub: Hub, operator: str) -> None:
    made = ok(hub.call("POST", "/invitations", operator, body={"label": "bob"}), wire.Invitation)

    assert (made.organization, made.role) == (None, None)
    joined = ok(accept(hub, made, name="bob", password=SECRET), wire.Account)
    assert joined.organizations == {"bob": "admin"}
    refused = hub.call("POST", "/invitations", hub.token("bob"), body={"label": "carl"})
    assert problem(refused).code == "not_operator"


# ---------------------------------------------------------------- accounts, for operators


def test_an_operator_makes_lists_and_disables_accounts(hub: Hub, operator: str) -> None:
    body = {"name": "bob", "password": SECRET}
    made = ok(hub.call("POST", "/accounts", operator, body=body), wire.AccountSummary)
    bob = hub.token("bob")

    disabled = ok(
        hub.call("PUT", "/accounts/bob", operator, body={"disabled": True}), wire.AccountSummary
    )
    while_disabled = hub.get("/whoami", bob).status_code
    hub.call("PUT", "/accounts/bob", operator, body={"disabled": False})
    page = ok(hub.get("/accounts?limit=1", operator), wire.AccountPage)
    rest = ok(hub.get(f"/accounts?limit=1&after={page.next}", operator), wire.AccountPage)

    assert (made.name, made.has_password, made.organizations) == ("bob", True, {"bob": "admin"})
    assert disabled.disabled_at == "2026-11-20T12:00:00.000Z"
    assert (while_disabled, hub.get("/whoami", bob).status_code) == (401, 200)
    assert [each.name for each in (*page.items, *rest.items)] == ["bob", "root"]
    assert rest.next is None


def test_the_last_operator_stays_one(hub: Hub, operator: str) -> None:
    for change in ({"disabled": True}, {"is_admin": False}):
        refused = hub.call("PUT", "/accounts/root", operator, body=change)
        assert problem(refused).code == "last_admin"
    assert hub.get("/accounts", operator).status_code == 200


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "/accounts", None),
        ("POST", "/accounts", {"name": "carl"}),
        ("PUT", "/accounts/ada", {"is_admin": True}),
        ("GET", "/invitations", None),
        ("PUT", "/orgs/lab/quota", {"max_versions": 9}),
    ],
)
def test_operating_is_for_operators(
    hub: Hub, lab: str, method: str, path: str, body: object
) -> None:
    more = {} if body is None else {"body": body}

    refused = hub.call(method, path, lab, **more)

    assert (refused.status_code, problem(refused).code) == (403, "not_operator")


# ---------------------------------------------------------------- quotas


def publish(hub: Hub, token: str, name: str, seed: int = 0) -> wire.Version:
    files = make_files(seed)
    return hub.publish(token, make_manifest(f"nli/{name}@lab", files), files)


def begin(hub: Hub, token: str, name: str, seed: int):
    draft = wire.UploadDraft(manifest=make_manifest(f"nli/{name}@lab", make_files(seed)))
    return hub.call("POST", "/uploads", token, body=draft)


def size(*seeds: int) -> int:
    contents = {content for seed in seeds for content in make_files(seed).values()}
    return sum(map(len, contents))


def test_a_quota_counts_each_blob_once(hub: Hub, lab: str, operator: str) -> None:
    publish(hub, lab, "a")
    publish(hub, lab, "b")

    set_to = ok(hub.call("PUT", "/orgs/lab/quota", operator, body={"max_bytes": 10**6}), wire.Quota)

    assert set_to == wire.Quota(versions=2, size_bytes=size(0), max_versions=None, max_bytes=10**6)
    assert ok(hub.get("/orgs/lab/quota", lab), wire.Quota) == set_to
    assert hub.get("/orgs/lab/quota", hub.token("bob")).status_code == 403


def test_what_has_no_room_is_refused_before_a_byte_moves(hub: Hub, lab: str, operator: str) -> None:
    publish(hub, lab, "a")
    hub.call("PUT", "/orgs/lab/quota", operator, body={"max_bytes": size(0, 1) - 1})

    refused = begin(hub, lab, "b", 1)
    same_bytes = publish(hub, lab, "c", 0)

    assert (refused.status_code, problem(refused).code) == (413, "quota_exceeded")
    assert f"keeps {size(0)} bytes and may keep {size(0, 1) - 1}" in problem(refused).detail
    assert same_bytes.number == 1


def test_versions_are_counted_at_the_commit_too(hub: Hub, lab: str, operator: str) -> None:
    hub.call("PUT", "/orgs/lab/quota", operator, body={"max_versions": 1})
    begun = hub.begin(lab, make_manifest("nli/first@lab", make_files(1)))
    contents = {
        file.sha256: make_files(1)[file.path]
        for file in make_manifest("nli/first@lab", make_files(1)).files
    }
    for target in begun.missing:
        hub.call("PUT", target.url.removeprefix("/api/v1"), lab, data=contents[target.sha256])
    publish(hub, lab, "second", 2)

    late = hub.call("POST", f"/uploads/{begun.id}/commit", lab)

    assert problem(late).code == "quota_exceeded"
    assert hub.get("/adapters/nli/first@lab", lab).status_code == 404
    assert ok(hub.get("/orgs/lab/quota", lab), wire.Quota).versions == 1


def test_nothing_is_moved_into_an_organization_without_room(
    hub: Hub, lab: str, operator: str
) -> None:
    files = make_files()
    hub.publish(lab, make_manifest("nli/mine@ada", files), files)
    hub.call("PUT", "/orgs/lab/quota", operator, body={"max_bytes": 1})

    refused = hub.call("POST", "/adapters/nli/mine@ada/transfer", lab, body={"org": "lab"})

    assert problem(refused).code == "quota_exceeded"
    assert hub.get("/adapters/nli/mine@ada", lab).status_code == 200


class TestOfTheRegistry:
    """Where an organization has no limit of its own."""

    @pytest.fixture
    def settings(self, settings: Settings) -> Settings:
        return msgspec.structs.replace(settings, org_max_versions=1)

    def test_its_limit_holds_for_all(self, hub: Hub, lab: str, operator: str) -> None:
        publish(hub, lab, "a")

        refused = begin(hub, lab, "b", 1)
        hub.call("PUT", "/orgs/lab/quota", operator, body={"max_versions": 0})

        assert problem(refused).code == "quota_exceeded"
        assert begin(hub, lab, "b", 1).status_code == 201


# ---------------------------------------------------------------- the audit log


def read(hub: Hub, token: str, query: str = "") -> wire.AuditPage:
    return ok(hub.get(f"/audit{query}", token), wire.AuditPage)


def test_the_log_of_an_organization_is_for_its_admins(hub: Hub, lab: str) -> None:
    bob = hub.token("bob")
    accept(hub, invite(hub, lab), bob)
    publish(hub, lab, "a")

    log = read(hub, lab, "?org=lab")

    assert [(each.account, each.action, each.subject) for each in log.items] == [
        ("ada", "version.publish", "nli/a@lab"),
        ("ada", "adapter.create", "nli/a@lab"),
        ("bob", "org.invitation.accept", "lab/bob of the lab"),
        ("ada", "org.invitation.create", "lab/bob of the lab"),
        ("ada", "org.create", "lab"),
    ]
    assert {each.organization for each in log.items} == {"lab"}
    assert all(each.request_id for each in log.items)
    assert problem(hub.get("/audit?org=lab", bob)).code == "missing_role"
    assert problem(hub.get("/audit?org=nowhere", lab)).code == "org_not_found"


def test_everyone_reads_what_they_did_and_operators_everything(
    hub: Hub, lab: str, operator: str
) -> None:
    bob = hub.token("bob")
    publish(hub, lab, "a")

    own, everything = read(hub, bob), read(hub, operator)

    assert {each.account for each in own.items} == {"bob"}
    assert {each.account for each in everything.items} == {"ada", "bob", "root", None}


def test_the_log_is_read_by_page_action_and_subject(hub: Hub, lab: str, operator: str) -> None:
    for name in "abc":
        publish(hub, lab, name)

    page = read(hub, operator, "?action=version.publish&limit=2")
    rest = read(hub, operator, f"?action=version.publish&limit=2&after={page.next}")
    of_one = read(hub, operator, "?action=version.&subject=nli/b@lab")

    assert [each.subject[4] for each in (*page.items, *rest.items)] == ["c", "b", "a"]
    assert rest.next is None
    assert [each.action for each in of_one.items] == ["version.publish"]
    assert problem(hub.get("/audit?after=what", operator)).code == "invalid_request"
