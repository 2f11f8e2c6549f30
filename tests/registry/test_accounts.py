"""Tokens, scopes, organizations and roles."""

import pytest
from sqlalchemy import select
from tests.registry.conftest import Hub, ok, problem

from adapterhub_client import wire
from adapterhub_registry.models import Account, AuditEvent, Token
from adapterhub_registry.service import account as accounts


def test_a_token_says_whom_it_speaks_for(hub: Hub) -> None:
    token = hub.token("ukp", "write")

    found = ok(hub.get("/whoami", token), wire.Account)

    assert found == wire.Account(
        name="ukp", organizations={"ukp": "admin"}, scopes=["write"], is_admin=False
    )


def test_without_a_token_there_is_nobody(hub: Hub) -> None:
    answer = hub.get("/whoami")

    assert (answer.status_code, problem(answer).code) == (401, "token_required")
    assert answer.headers["WWW-Authenticate"] == 'Bearer realm="adapterhub"'


@pytest.mark.parametrize(
    "header", ["Bearer ahub_unknown", "Bearer ", "Basic dTpw", "ahub_unknown", ""]
)
def test_a_wrong_token_is_refused_even_where_none_is_needed(hub: Hub, header: str) -> None:
    answer = hub.get("/adapters", headers={"Authorization": header})

    assert (answer.status_code, problem(answer).code) == (401, "wrong_token")


def test_an_expired_token_is_wrong(hub: Hub) -> None:
    token = hub.token("ukp", "read", days=1)
    assert hub.get("/whoami", token).status_code == 200

    hub.clock.move(days=1)

    assert problem(hub.get("/whoami", token)).code == "wrong_token"


def test_only_the_hash_of_a_secret_is_kept(hub: Hub) -> None:
    secret = hub.token("ukp")

    with hub.runtime.database.reading() as session:
        token = session.scalars(select(Token)).one()
    assert secret.startswith("ahub_")
    assert secret not in str(vars(token))


def test_a_new_token_is_shown_once(hub: Hub) -> None:
    token = hub.token("ukp")

    made = ok(hub.call("POST", "/tokens", token, body={"label": "laptop"}), wire.Token)
    listed = [each for each in hub.get("/tokens", token).json if each["label"] == "laptop"]

    assert (made.scopes, made.expires_at) == (["read"], "2027-02-18T12:00:00.000Z")
    assert hub.get("/whoami", made.secret).status_code == 200
    assert [each["secret"] for each in listed] == [None]


@pytest.mark.parametrize(
    ("held", "asked", "allowed"),
    [
        ("read", "read", True),
        ("read", "write", False),
        ("write", "read", True),
        ("write", "admin", False),
        ("admin", "admin", True),
    ],
)
def test_a_token_makes_only_what_it_is_itself(
    hub: Hub, held: wire.Scope, asked: str, *, allowed: bool
) -> None:
    body = {"label": "more", "scopes": [asked]}

    answer = hub.call("POST", "/tokens", hub.token("ukp", held), body=body)

    assert (answer.status_code == 201) is allowed
    assert allowed or problem(answer).code == "missing_scope"


def test_a_token_makes_none_that_outlives_it(hub: Hub) -> None:
    token = hub.token("ukp", "admin", days=2)

    for days in (90, None):
        body = {"label": "longer", "expires_days": days}
        made = ok(hub.call("POST", "/tokens", token, body=body), wire.Token)
        assert made.expires_at == "2026-11-22T12:00:00.000Z"


def test_a_revoked_token_is_wrong(hub: Hub) -> None:
    token = hub.token("ukp")
    made = ok(hub.call("POST", "/tokens", token, body={"label": "x"}), wire.Token)

    assert hub.call("DELETE", f"/tokens/{made.id}", token).status_code == 204

    assert problem(hub.get("/whoami", made.secret)).code == "wrong_token"
    assert problem(hub.call("DELETE", f"/tokens/{made.id}", token)).code == "token_not_found"


def test_nobody_revokes_the_token_of_another(hub: Hub) -> None:
    made = ok(hub.call("POST", "/tokens", hub.token("a"), body={"label": "x"}), wire.Token)

    refused = problem(hub.call("DELETE", f"/tokens/{made.id}", hub.token("b")))

    assert refused.code == "token_not_found"
    assert hub.get("/whoami", made.secret).status_code == 200


def test_a_read_token_may_end_itself_and_nothing_else(hub: Hub) -> None:
    mine, other = hub.token("ukp", "read"), hub.token("ukp", "read")
    first, second = [each["id"] for each in hub.get("/tokens", mine).json]

    refused = problem(hub.call("DELETE", f"/tokens/{second}", mine))
    ended = hub.call("DELETE", f"/tokens/{first}", mine)

    assert (refused.code, ended.status_code) == ("missing_scope", 204)
    assert hub.get("/whoami", mine).status_code == 401
    assert hub.get("/whoami", other).status_code == 200


@pytest.mark.parametrize(
    "body",
    [
        pytest.param({}, id="no label"),
        pytest.param({"label": ""}, id="empty label"),
        pytest.param({"label": "x", "scopes": []}, id="no scope"),
        pytest.param({"label": "x", "scopes": ["root"]}, id="unknown scope"),
        pytest.param({"label": "x", "expires_days": 0}, id="no time"),
        pytest.param({"label": "x", "expires_days": 10**9}, id="too long"),
        pytest.param({"label": "a\0b"}, id="NUL"),
        pytest.param([], id="no object"),
    ],
)
def test_a_token_request_that_does_not_fit_is_refused(hub: Hub, body: object) -> None:
    refused = problem(hub.call("POST", "/tokens", hub.token("ukp"), body=body))

    assert (refused.status, refused.code) == (422, "invalid_request")


def test_whoever_makes_an_organization_is_its_admin(hub: Hub) -> None:
    token = hub.token("ukp")

    made = ok(hub.call("POST", "/orgs", token, body={"name": "lab"}), wire.Organization)

    assert made == wire.Organization(name="lab", members={"ukp": "admin"}, adapters=0)
    assert ok(hub.get("/orgs/lab"), wire.Organization).members == {}
    assert hub.get("/whoami", token).json["organizations"] == {"lab": "admin", "ukp": "admin"}


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("ukp", "name_taken"),
        ("api", "malformed_name"),
        ("UKP", "malformed_name"),
        ("a--b", "malformed_name"),
        ("", "malformed_name"),
        ("x" * 97, "malformed_name"),
        ("a\0b", "malformed_name"),
    ],
)
def test_a_name_has_to_be_free_and_well_formed(hub: Hub, name: str, code: str) -> None:
    refused = problem(hub.call("POST", "/orgs", hub.token("ukp"), body={"name": name}))

    assert refused.code == code


def test_an_unknown_organization_is_missing(hub: Hub) -> None:
    assert problem(hub.get("/orgs/nowhere")).code == "org_not_found"


def test_roles_are_given_changed_and_taken(hub: Hub) -> None:
    token = hub.token("ukp")
    hub.token("bob")

    seen = [
        hub.call("PUT", "/orgs/ukp/members/bob", token, body={"role": role}).json["members"]
        for role in ("reader", "admin", None)
    ]

    assert seen == [
        {"ukp": "admin", "bob": "reader"},
        {"ukp": "admin", "bob": "admin"},
        {"ukp": "admin"},
    ]


@pytest.mark.parametrize("role", ["reader", None])
def test_an_organization_keeps_an_admin(hub: Hub, role: str | None) -> None:
    token = hub.token("ukp")

    refused = problem(hub.call("PUT", "/orgs/ukp/members/ukp", token, body={"role": role}))

    assert (refused.status, refused.code) == (409, "last_admin")


def test_only_admins_give_roles(hub: Hub) -> None:
    owner, bob = hub.token("ukp"), hub.token("bob")
    path, body = "/orgs/ukp/members/bob", {"role": "admin"}
    hub.call("PUT", path, owner, body={"role": "writer"})

    codes = [
        problem(hub.call("PUT", path, token, body=body)).code
        for token in (None, hub.token("ukp", "write"), bob)
    ]

    assert codes == ["token_required", "missing_scope", "missing_role"]
    assert problem(hub.call("PUT", "/orgs/ukp/members/nobody", owner, body=body)).code == (
        "account_not_found"
    )


def test_an_administrator_may_do_everything_but_only_with_the_scope(hub: Hub) -> None:
    with hub.runtime.database.writing() as session:
        secret = accounts.bootstrap(session, hub.clock())
    hub.token("ukp")
    hub.token("bob")
    path, body = "/orgs/ukp/members/bob", {"role": "writer"}

    assert hub.call("PUT", path, secret, body=body).status_code == 200
    assert hub.get("/whoami", secret).json["is_admin"] is True
    assert problem(hub.call("PUT", path, hub.token("admin", "write"), body=body)).code == (
        "missing_scope"
    )


def test_only_an_empty_registry_makes_its_first_account(hub: Hub) -> None:
    with hub.runtime.database.writing() as session:
        first = accounts.bootstrap(session, hub.clock())
        again = accounts.bootstrap(session, hub.clock())

    assert (first is None, again) == (False, None)
    with hub.runtime.database.reading() as session:
        assert [row.name for row in session.scalars(select(Account))] == ["admin"]


def test_every_change_is_in_the_audit_log(hub: Hub) -> None:
    token = hub.token("ukp")
    made = ok(hub.call("POST", "/tokens", token, body={"label": "x"}), wire.Token)
    hub.call("DELETE", f"/tokens/{made.id}", token)
    hub.call("POST", "/orgs", token, body={"name": "lab"})
    hub.token("bob")
    hub.call("PUT", "/orgs/lab/members/bob", token, body={"role": "reader"})
    hub.call("PUT", "/orgs/lab/members/ukp", token, body={"role": None})

    with hub.runtime.database.reading() as session:
        events = session.scalars(select(AuditEvent).order_by(AuditEvent.id)).all()
    assert [event.action for event in events] == [
        "account.create",
        "token.create",
        "token.create",
        "token.revoke",
        "org.create",
        "account.create",
        "token.create",
        "org.member",
    ]
    assert made.secret not in str([event.detail for event in events])
