"""Passwords, sessions, what slows guessing down, and tokens that follow each other."""

from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import select
from tests.factories import make_files, make_manifest
from tests.registry.conftest import Hub, ok, problem

from adapterhub_client import wire
from adapterhub_registry.models import Account, AuditEvent, Throttle, Token
from adapterhub_registry.service import password, throttle
from adapterhub_registry.service.throttle import Rate

SECRET = "correct horse battery"
ANOTHER = "staple of a different colour"


def with_password(hub: Hub, name: str = "ada", new: str = SECRET) -> str:
    token = hub.token(name)
    assert hub.call("PUT", "/password", token, body={"new": new}).status_code == 204
    return token


def sign_in(hub: Hub, name: str = "ada", secret: str = SECRET, **more: Any) -> Any:
    address = more.pop("address", "127.0.0.1")
    body = {"label": "laptop", "name": name, "password": secret, **more}
    environment = {"REMOTE_ADDR": address}
    return hub.call("POST", "/sign-in", body=body, environ_base=environment)


def test_a_password_gives_a_token_of_the_wanted_reach(hub: Hub) -> None:
    with_password(hub)

    made = ok(sign_in(hub, scopes=["write"], expires_days=3), wire.Token)

    assert made.secret is not None
    account = ok(hub.get("/whoami", made.secret), wire.Account)
    assert (account.name, account.scopes) == ("ada", ["write"])
    assert made.expires_at == "2026-11-23T12:00:00.000Z"


def test_only_a_hash_of_a_password_is_kept(hub: Hub) -> None:
    with_password(hub)

    with hub.runtime.database.reading() as session:
        kept = session.scalars(select(Account.password_hash).filter_by(name="ada")).one()
    assert kept is not None
    assert kept.startswith("$argon2id$")
    assert SECRET not in kept


@pytest.mark.parametrize(
    ("name", "secret"),
    [
        pytest.param("ada", "wrong password", id="a wrong password"),
        pytest.param("nobody", SECRET, id="a name that is none"),
        pytest.param("without", SECRET, id="an account without a password"),
        pytest.param("away", SECRET, id="an account that is disabled"),
        pytest.param("ada", "", id="no password"),
        pytest.param("ada", SECRET + " ", id="one letter too many"),
    ],
)
def test_what_does_not_go_together_is_refused_alike(hub: Hub, name: str, secret: str) -> None:
    with_password(hub)
    with_password(hub, "away")
    hub.token("without")
    with hub.runtime.database.writing() as session:
        session.scalars(select(Account).filter_by(name="away")).one().disabled_at = hub.clock()

    refused = sign_in(hub, name, secret)

    assert (refused.status_code, problem(refused).code) == (401, "wrong_password")
    assert problem(refused).detail == "No account has this name and this password."


def test_guessing_one_name_is_slowed_down_and_others_go_on(hub: Hub) -> None:
    with_password(hub)
    with_password(hub, "bob")
    for _ in range(10):
        assert sign_in(hub, secret="a guess at it").status_code == 401

    stopped, elsewhere = sign_in(hub), sign_in(hub, address="192.0.2.7")

    assert (stopped.status_code, problem(stopped).code) == (429, "too_many_requests")
    assert 0 < int(stopped.headers["Retry-After"]) <= 90
    assert elsewhere.status_code == 201
    assert sign_in(hub, "bob").status_code == 201
    hub.clock.move(seconds=int(stopped.headers["Retry-After"]))
    assert sign_in(hub).status_code == 201


def test_a_name_that_is_none_is_slowed_down_like_any_other(hub: Hub) -> None:
    answers = [sign_in(hub, "nobody").status_code for _ in range(11)]

    assert answers == [401] * 10 + [429]


def test_signing_in_forgives_earlier_mistakes(hub: Hub) -> None:
    with_password(hub)
    for _ in range(9):
        sign_in(hub, secret="a guess at it")

    assert sign_in(hub).status_code == 201
    assert [sign_in(hub, secret="again wrong").status_code for _ in range(10)] == [401] * 10


def test_an_address_that_tries_many_names_is_slowed_down(hub: Hub) -> None:
    with hub.runtime.database.writing() as session:
        for _ in range(100):
            throttle.take(
                session, "sign in from 192.0.2.1", Rate(100, timedelta(minutes=15)), hub.clock()
            )

    assert sign_in(hub, "any", address="192.0.2.1").status_code == 429
    assert sign_in(hub, "any", address="192.0.2.2").status_code == 401


def test_what_is_throttled_comes_back_at_its_pace(hub: Hub) -> None:
    rate = Rate(4, timedelta(minutes=4))

    def take() -> timedelta | None:
        with hub.runtime.database.writing() as session:
            return throttle.take(session, "a key", rate, hub.clock())

    first = [take() for _ in range(5)]
    hub.clock.move(minutes=1)
    after_one = [take(), take()]
    hub.clock.move(minutes=30)
    with hub.runtime.database.writing() as session:
        throttle.forget(session, hub.clock())
        left = session.scalars(select(Throttle)).all()

    assert first == [None, None, None, None, timedelta(minutes=1)]
    assert after_one == [None, timedelta(minutes=1)]
    assert left == []


@pytest.mark.parametrize(
    ("new", "reason"),
    [
        ("short", "10 to 1024 characters, not 5"),
        ("x" * 1025, "not 1025"),
        ("aaaaaaaaaaaa", "at least 4 different"),
        ("ada.lovelace", "not the name of the account"),
    ],
)
def test_a_weak_password_is_refused_with_the_reason(hub: Hub, new: str, reason: str) -> None:
    token = hub.token("ada.lovelace")

    refused = hub.call("PUT", "/password", token, body={"new": new})

    if len(new) > password.LONGEST:
        assert problem(refused).code == "invalid_request"
        return
    assert (refused.status_code, problem(refused).code) == (422, "password_refused")
    assert reason in problem(refused).detail


def test_a_new_password_needs_the_one_there_is_and_signs_browsers_out(hub: Hub) -> None:
    token = with_password(hub)
    session_token, api_token = (ok(sign_in(hub), wire.Token) for _ in range(2))
    with hub.runtime.database.writing() as session:
        session.get_one(Token, session_token.id).kind = "session"

    without = hub.call("PUT", "/password", token, body={"new": ANOTHER})
    wrong = hub.call("PUT", "/password", token, body={"new": ANOTHER, "current": "no"})
    right = hub.call("PUT", "/password", token, body={"new": ANOTHER, "current": SECRET})

    assert [problem(each).code for each in (without, wrong)] == ["wrong_password"] * 2
    assert right.status_code == 204
    assert sign_in(hub).status_code == 401
    assert sign_in(hub, secret=ANOTHER).status_code == 201
    assert hub.get("/whoami", session_token.secret).status_code == 401
    assert hub.get("/whoami", api_token.secret).status_code == 200


def test_a_leak_ends_every_token_with_the_password(hub: Hub) -> None:
    token = with_password(hub)
    other = ok(sign_in(hub), wire.Token)

    body = {"new": ANOTHER, "current": SECRET, "revoke_tokens": True}
    assert hub.call("PUT", "/password", token, body=body).status_code == 204

    assert hub.get("/whoami", other.secret).status_code == 401
    assert hub.get("/whoami", token).status_code == 200


def test_a_token_that_may_only_write_sets_no_password(hub: Hub) -> None:
    token = hub.token("ada", "write")

    refused = hub.call("PUT", "/password", token, body={"new": SECRET})

    assert problem(refused).code == "missing_scope"


def test_a_token_is_rotated_at_once_or_with_an_overlap(hub: Hub) -> None:
    admin = hub.token("ada")
    body = {"label": "ci", "scopes": ["write"], "expires_days": 30, "organizations": ["ada"]}
    old = ok(hub.call("POST", "/tokens", admin, body=body), wire.Token)
    hub.clock.move(days=10)

    new = ok(
        hub.call("POST", f"/tokens/{old.id}/rotate", old.secret, body={"overlap_hours": 2}),
        wire.Token,
    )
    newest = ok(hub.call("POST", f"/tokens/{new.id}/rotate", admin, body={}), wire.Token)

    assert (new.label, new.scopes, new.organizations) == ("ci", ["write"], ["ada"])
    assert new.expires_at == "2026-12-30T12:00:00.000Z"
    assert hub.get("/whoami", old.secret).status_code == 200
    assert hub.get("/whoami", new.secret).status_code == 401
    hub.clock.move(hours=2)
    assert hub.get("/whoami", old.secret).status_code == 401
    assert hub.get("/whoami", newest.secret).status_code == 200


def test_the_last_use_of_a_token_is_known_to_within_minutes(hub: Hub) -> None:
    token = hub.token("ada")

    def used_at() -> str | None:
        return ok(hub.get("/tokens", token), list[wire.Token])[0].used_at

    assert used_at() == "2026-11-20T12:00:00.000Z"
    hub.clock.move(minutes=9)
    assert used_at() == "2026-11-20T12:00:00.000Z"
    hub.clock.move(minutes=1)
    assert used_at() == "2026-11-20T12:10:00.000Z"


def test_noting_a_use_waits_for_nobody(hub: Hub) -> None:
    token = hub.token("ada")
    with hub.runtime.database.writing() as session:
        session.scalars(select(Account).with_for_update()).all()

        assert hub.get("/whoami", token).status_code == 200


def test_a_token_for_one_organization_is_none_for_others(hub: Hub) -> None:
    admin = hub.token("ada")
    hub.call("POST", "/orgs", admin, body={"name": "lab"})
    files = make_files()
    hub.publish(admin, make_manifest("nli/secret@ada", files), files, private=True)
    hub.publish(admin, make_manifest("nli/secret@lab", files), files, private=True)
    body = {"label": "ci", "scopes": ["admin"], "organizations": ["lab"]}
    narrow = ok(hub.call("POST", "/tokens", admin, body=body), wire.Token).secret

    elsewhere = hub.call(
        "POST",
        "/uploads",
        narrow,
        body=wire.UploadDraft(manifest=make_manifest("nli/x@ada", files)),
    )
    wider = hub.call("POST", "/tokens", narrow, body={"label": "more", "organizations": ["ada"]})
    same = hub.call("POST", "/tokens", narrow, body={"label": "same", "scopes": ["read"]})

    assert hub.get("/adapters/nli/secret@lab", narrow).status_code == 200
    assert hub.get("/adapters/nli/secret@ada", narrow).status_code == 404
    assert ok(hub.get("/adapters", narrow), wire.AdapterPage).total == 1
    assert ok(hub.get("/whoami", narrow), wire.Account).organizations == {"lab": "admin"}
    assert (elsewhere.status_code, problem(elsewhere).code) == (403, "token_elsewhere")
    assert problem(wider).code == "token_elsewhere"
    assert ok(same, wire.Token).organizations == ["lab"]
    assert (
        problem(hub.call("POST", "/orgs", narrow, body={"name": "new"})).code == "token_elsewhere"
    )


def test_bytes_of_another_organization_do_not_come_along_with_a_narrow_token(hub: Hub) -> None:
    admin = hub.token("ada")
    hub.call("POST", "/orgs", admin, body={"name": "lab"})
    files = make_files()
    hub.publish(admin, make_manifest("nli/secret@ada", files), files, private=True)
    body = {"label": "ci", "scopes": ["write"], "organizations": ["lab"]}
    narrow = ok(hub.call("POST", "/tokens", admin, body=body), wire.Token).secret
    assert narrow is not None

    begun = hub.begin(narrow, make_manifest("nli/copy@lab", files))

    assert len(begun.missing) == len(files)


def test_a_token_for_an_organization_that_is_none_is_refused(hub: Hub) -> None:
    body = {"label": "ci", "organizations": ["nowhere"]}

    assert problem(hub.call("POST", "/tokens", hub.token("ada"), body=body)).code == "org_not_found"


def test_who_signs_in_and_who_is_refused_is_in_the_log(hub: Hub) -> None:
    with_password(hub)
    sign_in(hub, secret="a guess at it", address="192.0.2.9")
    sign_in(hub)

    with hub.runtime.database.reading() as session:
        found = session.execute(
            select(AuditEvent.action, AuditEvent.detail).order_by(AuditEvent.id)
        ).all()
    told = [(action, detail.get("address")) for action, detail in found][-4:]
    assert told == [
        ("account.password", None),
        ("account.refuse", "192.0.2.9"),
        ("account.sign_in", "127.0.0.1"),
        ("token.create", None),
    ]
