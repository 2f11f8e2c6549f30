"""What may change once something is out: status, aliases, who reads it, whose it is, and whether it is there."""

from urllib.parse import quote

import pytest
from sqlalchemy import select
from tests.factories import OTHER_FINGERPRINT, make_files, make_manifest, sha256
from tests.registry.conftest import Hub, ok, problem

from adapterhub_client import wire
from adapterhub_registry.models import AuditEvent, Model, Version
from adapterhub_registry.service import organization as organizations
from adapterhub_registry.service.ownership import Changed

ADAPTER = "/adapters/nli/multinli@ukp"


def publish(
    hub: Hub, token: str, seed: int = 0, reference: str = "nli/multinli@ukp", **changes: object
) -> wire.Version:
    files = make_files(seed)
    private = bool(changes.pop("private", False))
    return hub.publish(token, make_manifest(reference, files, **changes), files, private=private)


def fuse(hub: Hub, token: str, reference: str, *members: wire.Version, private: bool = False):
    """Publish a fusion of these versions."""
    named = {f"m{at}": member for at, member in enumerate(members)}
    files = make_files(len(reference))
    manifest = make_manifest(
        reference,
        files,
        method={"name": "fusion", "config_id": "f" * 16, "format": "composition"},
        composition=wire.Composition(
            expression=f"fuse({', '.join(named)})" if len(named) > 1 else "stack(m0)",
            members=[
                wire.Member(name=name, reference=each.reference, digest=each.digest)
                for name, each in named.items()
            ],
        ),
    )
    return hub.publish(token, manifest, files, private=private)


def begin(hub: Hub, token: str, manifest: wire.Manifest):
    return hub.call("POST", "/uploads", token, body=wire.UploadDraft(manifest=manifest))


def resolve(hub: Hub, ref: str, token: str | None = None):
    return hub.get(f"/resolve?ref={quote(ref)}", token)


def remove(hub: Hub, token: str | None, path: str, **query: str):
    given = {"reason": "it leaks names", **query}
    return hub.call(
        "DELETE", f"{path}?{'&'.join(f'{k}={quote(v)}' for k, v in given.items())}", token
    )


def found(hub: Hub, account: str, *names: str) -> None:
    with hub.runtime.database.writing() as session:
        for name in names:
            organizations.found(session, name, account, hub.clock())


def actions(hub: Hub) -> list[str]:
    with hub.runtime.database.reading() as session:
        return list(session.scalars(select(AuditEvent.action).order_by(AuditEvent.id)))


# ---------------------------------------------------------------- L1: yank


def test_l1_a_yanked_version_hides_and_a_pin_is_served_with_a_warning(hub: Hub) -> None:
    token = hub.token("ukp")
    first = publish(hub, token, 1)
    second = publish(hub, token, 2)

    body = {"reason": 'trained on\r\ntest data: "schlecht", für alle'}
    yanked = ok(
        hub.call("POST", f"{ADAPTER}/versions/2/yank", token, body=body), wire.ChangedVersion
    )
    newest = resolve(hub, "nli/multinli@ukp")
    pinned = resolve(hub, "nli/multinli@ukp:2")
    manifest = hub.get(f"/manifests/{second.digest}")

    assert (yanked.status, yanked.reason, yanked.dependants) == ("yanked", body["reason"], [])
    assert ok(newest, wire.Resolution).version.digest == first.digest
    assert "Warning" not in newest.headers
    assert ok(pinned, wire.Resolution).version.digest == second.digest
    told = "299 - \"nli/multinli@ukp:2 is yanked: trained on  test data: 'schlecht', f\\xfcr alle\""
    assert pinned.headers["Warning"] == told
    assert manifest.headers["Warning"] == told


def test_l1_what_was_yanked_can_be_restored(hub: Hub) -> None:
    token = hub.token("ukp")
    publish(hub, token, 1)
    second = publish(hub, token, 2)
    hub.call("POST", f"{ADAPTER}/versions/2/yank", token, body={"reason": "a doubt"})

    restored = ok(hub.call("POST", f"{ADAPTER}/versions/2/restore", token), wire.ChangedVersion)

    assert (restored.status, restored.reason) == ("active", None)
    answer = resolve(hub, "nli/multinli@ukp")
    assert ok(answer, wire.Resolution).version.digest == second.digest
    assert "Warning" not in answer.headers
    assert actions(hub)[-2:] == ["version.yanked", "version.active"]


def test_a_deprecated_version_still_answers_and_says_so(hub: Hub) -> None:
    token = hub.token("ukp")
    publish(hub, token)
    path = f"{ADAPTER}/versions/1/deprecate"
    hub.call("POST", path, token, body={"reason": "use nli/snli@ukp"})

    answer = resolve(hub, "nli/multinli@ukp")

    assert ok(answer, wire.Resolution).version.status == "deprecated"
    assert answer.headers["Warning"] == (
        '299 - "nli/multinli@ukp:1 is deprecated: use nli/snli@ukp"'
    )


def test_a_yank_says_what_depends_on_it(hub: Hub) -> None:
    token, stranger = hub.token("ukp"), hub.token("else")
    member = publish(hub, token)
    fused = fuse(hub, token, "nli/fused@ukp", member)
    nested = fuse(hub, token, "nli/nested@ukp", fused)
    child = publish(
        hub,
        stranger,
        7,
        "nli/child@else",
        lineage=[wire.Lineage(kind="parent", digest=member.digest)],
    )
    fuse(hub, stranger, "nli/hidden@else", member, private=True)

    path = f"{ADAPTER}/versions/1/yank"
    yanked = ok(hub.call("POST", path, token, body={"reason": "bad"}), wire.ChangedVersion)

    assert {each.digest for each in yanked.dependants} == {
        fused.digest,
        nested.digest,
        child.digest,
    }


# ---------------------------------------------------------------- aliases


def test_an_alias_is_set_moved_listed_and_removed(hub: Hub) -> None:
    token = hub.token("ukp")
    first, second = publish(hub, token, 1), publish(hub, token, 2)
    path = f"{ADAPTER}/aliases/stable"

    hub.call("PUT", path, token, body={"version": "1"})
    before = ok(hub.get(f"{ADAPTER}/aliases"), list[wire.Alias])
    hub.call("PUT", path, token, body={"version": second.digest})
    after = ok(hub.get(f"{ADAPTER}/aliases"), list[wire.Alias])
    gone = hub.call("DELETE", path, token)

    assert [(each.name, each.number, each.digest) for each in before] == [
        ("stable", 1, first.digest)
    ]
    assert [(each.name, each.number, each.digest) for each in after] == [
        ("stable", 2, second.digest)
    ]
    assert gone.status_code == 204
    assert ok(hub.get(f"{ADAPTER}/aliases"), list[wire.Alias]) == []
    assert problem(resolve(hub, "nli/multinli@ukp:stable")).code == "version_not_found"
    assert actions(hub)[-3:] == ["alias.set", "alias.set", "alias.remove"]


def test_an_alias_of_several_variants_is_removed_by_variant(hub: Hub) -> None:
    token = hub.token("ukp")
    versions = [
        publish(hub, token, 1),
        publish(hub, token, 2, base={"fingerprint": OTHER_FINGERPRINT}),
    ]
    path = f"{ADAPTER}/aliases/stable"
    for version in versions:
        hub.call("PUT", path, token, body={"version": version.digest})

    refused = problem(hub.call("DELETE", path, token))
    removed = hub.call("DELETE", f"{path}?variant={versions[0].variant}", token)

    assert (refused.code, len(refused.candidates)) == ("ambiguous", 2)
    assert removed.status_code == 204
    [left] = ok(hub.get(f"{ADAPTER}/aliases"), list[wire.Alias])
    assert left.digest == versions[1].digest


def test_only_writers_touch_aliases_and_none_that_is_not_there(hub: Hub) -> None:
    token, stranger = hub.token("ukp"), hub.token("else")
    publish(hub, token)
    path = f"{ADAPTER}/aliases/stable"

    assert problem(hub.call("DELETE", path)).code == "token_required"
    assert problem(hub.call("DELETE", path, stranger)).code == "missing_role"
    assert problem(hub.call("DELETE", path, token)).code == "alias_not_found"


# ---------------------------------------------------------------- private and public


def test_an_adapter_goes_private_and_public_again(hub: Hub) -> None:
    token = hub.token("ukp")
    version = publish(hub, token)

    hidden = hub.call("PUT", f"{ADAPTER}/visibility", token, body={"private": True})
    unseen = resolve(hub, "nli/multinli@ukp")
    shown = hub.call("PUT", f"{ADAPTER}/visibility", token, body={"private": False})

    assert ok(hidden, Changed).summary.private
    assert problem(unseen).code == "adapter_not_found"
    assert not ok(shown, Changed).summary.private
    answer = ok(resolve(hub, "nli/multinli@ukp"), wire.Resolution)
    assert answer.version.digest == version.digest
    assert actions(hub)[-2:] == ["adapter.private", "adapter.public"]


def test_a_public_composition_pins_nothing_private(hub: Hub) -> None:
    token = hub.token("ukp")
    secret = publish(hub, token, 1, "nli/secret@ukp", private=True)
    fused = fuse(hub, token, "nli/inner@ukp", secret, private=True)

    opened = hub.call("PUT", "/adapters/nli/inner@ukp/visibility", token, body={"private": False})
    manifest = make_manifest(
        "nli/outer@ukp",
        make_files(5),
        method={"name": "fusion", "config_id": "f" * 16, "format": "composition"},
        composition=wire.Composition(
            expression="stack(m0)",
            members=[wire.Member(name="m0", reference=fused.reference, digest=fused.digest)],
        ),
    )
    upload = hub.begin(token, manifest)
    files = {sha256(content): content for content in make_files(5).values()}
    for target in upload.missing:
        hub.call("PUT", target.url.removeprefix("/api/v1"), token, data=files[target.sha256])
    published = hub.call("POST", f"/uploads/{upload.id}/commit", token)

    assert problem(opened).code == "private_members"
    assert problem(opened).reasons == ["private: nli/secret@ukp"]
    assert problem(published).reasons == ["private: nli/inner@ukp"]
    assert problem(hub.get("/adapters/nli/outer@ukp", token)).code == "adapter_not_found"


def test_what_the_public_pins_stays_public(hub: Hub) -> None:
    token = hub.token("ukp")
    member = publish(hub, token)
    fuse(hub, token, "nli/fused@ukp", member)

    refused = problem(hub.call("PUT", f"{ADAPTER}/visibility", token, body={"private": True}))

    assert refused.code == "depended_on"
    assert refused.reasons == ["pinned by nli/fused@ukp:1"]
    assert resolve(hub, "nli/multinli@ukp").status_code == 200


# ---------------------------------------------------------------- transfer


def test_a_transferred_adapter_keeps_its_digests_and_its_old_name_answers(hub: Hub) -> None:
    token = hub.token("ukp")
    found(hub, "ukp", "lab")
    version = publish(hub, token)
    hub.call("PUT", f"{ADAPTER}/aliases/stable", token, body={"version": "1"})

    moved = ok(hub.call("POST", f"{ADAPTER}/transfer", token, body={"org": "lab"}), Changed)
    answers = [
        ok(resolve(hub, ref), wire.Resolution)
        for ref in ("nli/multinli@lab", "nli/multinli@ukp", "nli/multinli@ukp:stable")
    ]

    assert moved.summary.reference == "nli/multinli@lab"
    assert {each.version.digest for each in answers} == {version.digest}
    assert {each.version.reference for each in answers} == {"nli/multinli@lab"}
    assert {each.version.published_as for each in answers} == {"nli/multinli@ukp"}
    assert hub.get(f"/manifests/{version.digest}").status_code == 200
    assert actions(hub)[-2:] == ["adapter.transfer", "adapter.receive"]


def test_after_a_transfer_new_versions_go_to_the_new_name(hub: Hub) -> None:
    token = hub.token("ukp")
    found(hub, "ukp", "lab")
    publish(hub, token, 1)
    hub.call("POST", f"{ADAPTER}/transfer", token, body={"org": "lab"})

    old = problem(begin(hub, token, make_manifest("nli/multinli@ukp", make_files(2))))
    new = publish(hub, token, 2, "nli/multinli@lab")

    assert old.code == "name_moved"
    assert "'nli/multinli@lab'" in old.detail
    assert (new.reference, new.number, new.published_as) == ("nli/multinli@lab", 2, None)


def test_an_adapter_can_be_given_back(hub: Hub) -> None:
    token = hub.token("ukp")
    found(hub, "ukp", "lab")
    version = publish(hub, token)
    hub.call("POST", f"{ADAPTER}/transfer", token, body={"org": "lab"})

    hub.call("POST", "/adapters/nli/multinli@lab/transfer", token, body={"org": "ukp"})

    for ref in ("nli/multinli@ukp", "nli/multinli@lab"):
        answer = ok(resolve(hub, ref), wire.Resolution).version
        assert (answer.reference, answer.published_as) == ("nli/multinli@ukp", None)
        assert answer.digest == version.digest


def test_a_transfer_needs_rights_in_both_and_a_free_name(hub: Hub) -> None:
    token, stranger = hub.token("ukp"), hub.token("else")
    publish(hub, token)
    found(hub, "ukp", "lab")
    publish(hub, token, 3, "nli/multinli@lab")
    path = f"{ADAPTER}/transfer"

    assert problem(hub.call("POST", path, token, body={"org": "else"})).code == "missing_role"
    assert problem(hub.call("POST", path, stranger, body={"org": "else"})).code == "missing_role"
    assert problem(hub.call("POST", path, token, body={"org": "lab"})).code == "name_taken"
    assert problem(hub.call("POST", path, token, body={"org": "none"})).code == "org_not_found"
    assert problem(hub.call("POST", path, token, body={"org": "ukp"})).code == "invalid_request"
    assert "adapter.transfer" not in actions(hub)


def test_the_old_name_of_a_private_adapter_tells_nothing(hub: Hub) -> None:
    token = hub.token("ukp")
    found(hub, "ukp", "lab")
    publish(hub, token, private=True)
    hub.call("POST", f"{ADAPTER}/transfer", token, body={"org": "lab"})

    hidden, absent = resolve(hub, "nli/multinli@ukp"), resolve(hub, "nli/nothing@ukp")

    assert problem(hidden).code == problem(absent).code == "adapter_not_found"
    assert "lab" not in hidden.text
    assert resolve(hub, "nli/multinli@ukp", token).status_code == 200


# ---------------------------------------------------------------- L3: delete


def test_l3_a_deleted_version_leaves_a_tombstone_and_its_number_is_not_given_again(
    hub: Hub,
) -> None:
    token = hub.token("ukp")
    publish(hub, token, 1)
    second = publish(hub, token, 2)

    gone = ok(remove(hub, token, f"{ADAPTER}/versions/2"), wire.Deletion)
    third = publish(hub, token, 3)
    refusals = [
        resolve(hub, "nli/multinli@ukp:2"),
        resolve(hub, f"nli/multinli@ukp:{second.digest}"),
        hub.get(f"/manifests/{second.digest}"),
        hub.get(f"/versions/{second.digest}/lineage"),
    ]

    assert [(each.number, each.digest) for each in gone.deleted] == [(2, second.digest)]
    assert third.number == 3
    for refusal in refusals:
        told = problem(refusal)
        assert (told.status, told.code) == (410, "deleted")
        assert told.tombstone == gone.deleted[0]
    assert told.tombstone is not None
    assert (told.tombstone.reason, told.tombstone.deleted_by) == ("it leaks names", "ukp")
    assert hub.get(f"/blobs/{sha256(make_files(2)['README.md'])}", token).status_code == 404
    assert actions(hub).count("version.delete") == 1


def test_u5_what_was_deleted_is_not_published_again(hub: Hub) -> None:
    token = hub.token("ukp")
    publish(hub, token, 1)
    publish(hub, token, 2)
    remove(hub, token, f"{ADAPTER}/versions/1")

    again = problem(begin(hub, token, make_manifest(files=make_files(1))))

    assert (again.status, again.code) == (410, "deleted")


def test_a_deleted_adapter_answers_with_its_tombstone_and_its_name_is_spent(hub: Hub) -> None:
    token = hub.token("ukp")
    version = publish(hub, token, 1)
    hub.call("PUT", f"{ADAPTER}/aliases/stable", token, body={"version": "1"})

    gone = ok(remove(hub, token, ADAPTER), wire.Deletion)
    again = problem(begin(hub, token, make_manifest(files=make_files(9))))

    assert [(each.number, each.digest) for each in gone.deleted] == [
        (None, None),
        (1, version.digest),
    ]
    for ref in ("nli/multinli@ukp", "nli/multinli@ukp:1", "nli/multinli@ukp:stable"):
        assert problem(resolve(hub, ref)).code == "deleted"
    assert problem(hub.get(ADAPTER)).tombstone == gone.deleted[0]
    assert (again.status, again.code) == (409, "name_retired")
    assert ok(hub.get("/adapters"), wire.AdapterPage).items == []


def test_what_the_public_pins_is_deleted_only_by_force(hub: Hub) -> None:
    token = hub.token("ukp")
    member = publish(hub, token)
    fused = fuse(hub, token, "nli/fused@ukp", member)

    refused = problem(remove(hub, token, f"{ADAPTER}/versions/1"))
    whole = problem(remove(hub, token, ADAPTER))
    forced = ok(remove(hub, token, f"{ADAPTER}/versions/1", force="true"), wire.Deletion)
    around = ok(hub.get(f"/versions/{fused.digest}/lineage"), wire.Relations)

    assert (refused.code, refused.reasons) == ("depended_on", ["pinned by nli/fused@ukp:1"])
    assert whole.code == "depended_on"
    assert [each.digest for each in forced.dependants] == [fused.digest]
    assert around.members[0].version is None
    assert around.members[0].tombstone == forced.deleted[0]
    assert ok(resolve(hub, "nli/fused@ukp"), wire.Resolution).version.digest == fused.digest


def test_private_compositions_do_not_hold_back_a_deletion(hub: Hub) -> None:
    token = hub.token("ukp")
    member = publish(hub, token)
    fused = fuse(hub, token, "nli/fused@ukp", member, private=True)

    gone = ok(remove(hub, token, f"{ADAPTER}/versions/1"), wire.Deletion)

    assert [each.digest for each in gone.dependants] == [fused.digest]


def test_the_tombstone_of_a_private_version_is_for_those_who_could_read_it(hub: Hub) -> None:
    token, stranger = hub.token("ukp"), hub.token("else")
    version = publish(hub, token, private=True)
    remove(hub, token, ADAPTER)
    path = f"/manifests/{version.digest}"

    assert problem(hub.get(path, token)).code == "deleted"
    assert problem(hub.get(path, stranger)).code == "manifest_not_found"
    assert problem(hub.get(path)).code == "manifest_not_found"
    assert problem(resolve(hub, "nli/multinli@ukp", stranger)).code == "adapter_not_found"


def test_only_admins_delete(hub: Hub) -> None:
    token, stranger = hub.token("ukp"), hub.token("else")
    reader = hub.token("ukp", "read")
    publish(hub, token)

    assert problem(remove(hub, None, ADAPTER)).code == "token_required"
    assert problem(remove(hub, reader, ADAPTER)).code == "missing_scope"
    assert problem(remove(hub, stranger, f"{ADAPTER}/versions/1")).code == "missing_role"
    assert problem(hub.call("DELETE", ADAPTER, token)).code == "invalid_request"
    assert resolve(hub, "nli/multinli@ukp").status_code == 200


def test_every_table_about_versions_is_cleared_or_let_go() -> None:
    """A table that points at versions and is neither is one that deletion has to be taught."""
    pointing = {
        (table.name, key.parent.name, bool(key.parent.nullable))
        for table in Model.metadata.sorted_tables
        for key in table.foreign_keys
        if key.column is Version.__table__.c.id
    }

    let_go = {(table, column) for table, column, nullable in pointing if nullable}
    assert let_go == {
        ("imported_file", "version_id"),
        ("repository_commit", "version_id"),
        ("upload", "version_id"),
    }


@pytest.mark.parametrize("status", ["yank", "deprecate"])
def test_a_reason_is_needed(hub: Hub, status: str) -> None:
    token = hub.token("ukp")
    publish(hub, token)

    refused = hub.call("POST", f"{ADAPTER}/versions/1/{status}", token, body={"reason": ""})

    assert problem(refused).code == "invalid_request"
