"""Blobs first, manifest last: what a publish promises."""

import json
import random
import struct
from concurrent.futures import ThreadPoolExecutor

import msgspec
import pytest
from sqlalchemy import select
from tests.factories import OTHER_FINGERPRINT, make_files, make_manifest, make_weights, sha256
from tests.registry.conftest import Hub, ok, problem

from adapterhub_client import wire
from adapterhub_registry.models import AuditEvent, Task, Version
from adapterhub_registry.storage.store import MIB, PART_BYTES

JSON = {"Content-Type": "application/json"}
plain = msgspec.to_builtins


def versions_of(hub: Hub) -> list[int]:
    """The numbers of all versions there are."""
    with hub.runtime.database.reading() as session:
        return list(session.scalars(select(Version.number)))


def test_what_is_published_comes_back(hub: Hub) -> None:
    token, files = hub.token("ukp"), make_files()
    manifest = make_manifest(files=files)

    version = hub.publish(token, manifest, files)

    assert (version.reference, version.number, version.created_by) == ("nli/multinli@ukp", 1, "ukp")
    assert version.digest == wire.digest(manifest)
    assert version.size_bytes == sum(len(content) for content in files.values())
    assert hub.get(f"/blobs/{sha256(files['README.md'])}").data == files["README.md"]
    assert hub.get(f"/manifests/{version.digest}").data == wire.canonical(manifest)


def test_only_missing_blobs_are_asked_for(hub: Hub) -> None:
    token, files = hub.token("ukp"), make_files()
    hub.publish(token, make_manifest(files=files), files)
    changed = {**files, "README.md": b"# Changed\n"}

    upload = hub.begin(token, make_manifest(files=changed))

    assert [target.sha256 for target in upload.missing] == [sha256(b"# Changed\n")]


def test_versions_of_a_variant_are_numbered_in_order(hub: Hub) -> None:
    token = hub.token("ukp")

    numbers = [
        hub.publish(token, make_manifest(files=make_files(seed)), make_files(seed)).number
        for seed in range(3)
    ]

    assert numbers == [1, 2, 3]


def test_each_variant_counts_for_itself(hub: Hub) -> None:
    token, files = hub.token("ukp"), make_files()
    hub.publish(token, make_manifest(files=files), files)

    other = make_manifest(files=files, base={"fingerprint": OTHER_FINGERPRINT})

    assert hub.publish(token, other, files).number == 1


def test_the_same_manifest_again_is_the_same_version(hub: Hub) -> None:
    token, files = hub.token("ukp"), make_files()
    first = hub.publish(token, make_manifest(files=files), files)

    again = hub.begin(token, make_manifest(files=files))
    committed = hub.call("POST", f"/uploads/{again.id}/commit", token)

    assert (again.published, again.missing) == (first, [])
    assert (committed.status_code, ok(committed, wire.Version)) == (200, first)


def test_committing_twice_is_as_once(hub: Hub) -> None:
    token, files = hub.token("ukp"), make_files()
    first = hub.publish(token, make_manifest(files=files), files)
    upload = hub.begin(token, make_manifest(files=files))

    again = hub.call("POST", f"/uploads/{upload.id}/commit", token)

    assert ok(again, wire.Version) == first
    assert versions_of(hub) == [1]


def test_an_interrupted_push_goes_on_where_it_was(hub: Hub) -> None:
    token, files = hub.token("ukp"), make_files()
    first = hub.begin(token, make_manifest(files=files))
    path = f"/uploads/{first.id}/blobs/{sha256(files['README.md'])}"
    hub.call("PUT", path, token, data=files["README.md"])

    second = hub.begin(token, make_manifest(files=files))

    assert second.id == first.id
    assert sha256(files["README.md"]) not in {target.sha256 for target in second.missing}
    assert len(second.missing) == 2


def test_a_commit_before_its_blobs_names_the_missing_and_changes_nothing(hub: Hub) -> None:
    token, files = hub.token("ukp"), make_files()
    upload = hub.begin(token, make_manifest(files=files))

    refused = problem(hub.call("POST", f"/uploads/{upload.id}/commit", token))

    assert (refused.status, refused.code) == (409, "upload_incomplete")
    assert refused.reasons == [f"missing: {sha256(content)}" for content in files.values()]
    assert hub.get("/adapters").json["total"] == 0


@pytest.mark.parametrize(
    "sent",
    [
        pytest.param(b"x" * 17, id="too short"),
        pytest.param(b"# Adapter 1\n", id="same size, other bytes"),
        pytest.param(b"# Adapter 0\n and more", id="too long"),
    ],
)
def test_other_bytes_than_announced_are_refused(hub: Hub, sent: bytes) -> None:
    token, files = hub.token("ukp"), make_files()
    upload = hub.begin(token, make_manifest(files=files))
    path = f"/uploads/{upload.id}/blobs/{sha256(files['README.md'])}"

    refused = problem(hub.call("PUT", path, token, data=sent))

    assert (refused.status, refused.code) == (422, "content_refused")
    assert len(hub.begin(token, make_manifest(files=files)).missing) == 3


def test_a_pickle_that_calls_itself_safetensors_is_refused(hub: Hub) -> None:
    token, files = hub.token("ukp"), {"adapter.safetensors": b"\x80\x04cos\nsystem\n(S'true'\ntR."}
    upload = hub.begin(token, make_manifest(files=files))
    content = files["adapter.safetensors"]
    hub.call("PUT", f"/uploads/{upload.id}/blobs/{sha256(content)}", token, data=content)

    refused = problem(hub.call("POST", f"/uploads/{upload.id}/commit", token))

    assert refused.code == "content_refused"
    assert "is no safetensors file" in refused.reasons[0]
    assert hub.get("/adapters").json["total"] == 0


def test_a_blob_of_someone_elses_private_adapter_has_to_be_sent_again(hub: Hub) -> None:
    files = make_files()
    hub.publish(hub.token("ukp"), make_manifest(files=files), files, private=True)
    stranger = hub.token("tudarmstadt")
    stolen = make_manifest("nli/stolen@tudarmstadt", files)

    upload = hub.begin(stranger, stolen)
    refused = problem(hub.call("POST", f"/uploads/{upload.id}/commit", stranger))

    assert {target.sha256 for target in upload.missing} == {sha256(each) for each in files.values()}
    assert refused.code == "upload_incomplete"


def test_a_private_version_of_a_public_adapter_is_refused(hub: Hub) -> None:
    token, files = hub.token("ukp"), make_files()
    hub.publish(token, make_manifest(files=files), files)
    draft = wire.UploadDraft(manifest=make_manifest(description="secret"), private=True)

    answer = hub.call("POST", "/uploads", token, body=draft)

    assert problem(answer).code == "public_already"


def test_an_adapter_made_public_meanwhile_takes_no_private_version(hub: Hub) -> None:
    token, files = hub.token("ukp"), make_files()
    secret = make_manifest(files=files, description="secret")
    upload = hub.begin(token, secret, private=True)
    contents = {file.sha256: files[file.path] for file in secret.files}
    for target in upload.missing:
        path = target.url.removeprefix("/api/v1")
        hub.call("PUT", path, token, data=contents[target.sha256])
    hub.publish(token, make_manifest(files=make_files(1)), make_files(1))

    answer = hub.call("POST", f"/uploads/{upload.id}/commit", token)

    assert problem(answer).code == "public_already"


def test_an_upload_belongs_to_who_began_it(hub: Hub) -> None:
    token, files = hub.token("ukp"), make_files()
    upload = hub.begin(token, make_manifest(files=files))

    refused = problem(hub.call("POST", f"/uploads/{upload.id}/commit", hub.token("other")))

    assert refused.code == "upload_not_found"


def test_an_expired_upload_is_gone(hub: Hub) -> None:
    token, files = hub.token("ukp"), make_files()
    upload = hub.begin(token, make_manifest(files=files))

    hub.clock.move(hours=25)

    refused = problem(hub.call("POST", f"/uploads/{upload.id}/commit", token))
    assert refused.code == "upload_not_found"
    assert hub.begin(token, make_manifest(files=files)).id != upload.id


def test_a_blob_the_manifest_does_not_name_is_refused(hub: Hub) -> None:
    token = hub.token("ukp")
    upload = hub.begin(token, make_manifest())

    refused = hub.call("PUT", f"/uploads/{upload.id}/blobs/{sha256(b'x')}", token, data=b"x")

    assert problem(refused).code == "upload_not_found"


@pytest.mark.parametrize(
    ("role", "code"),
    [
        pytest.param(None, "missing_role", id="stranger"),
        pytest.param("reader", "missing_role", id="reader"),
        pytest.param("writer", None, id="writer"),
    ],
)
def test_only_writers_publish(hub: Hub, role: str | None, code: str | None) -> None:
    owner, token = hub.token("ukp"), hub.token("someone")
    hub.call("PUT", "/orgs/ukp/members/someone", owner, body={"role": role})

    answer = hub.call("POST", "/uploads", token, body=wire.UploadDraft(manifest=make_manifest()))

    assert (None if answer.status_code == 201 else problem(answer).code) == code


def test_a_member_who_is_taken_out_cannot_commit_any_more(hub: Hub) -> None:
    owner, token, files = hub.token("ukp"), hub.token("someone"), make_files()
    hub.call("PUT", "/orgs/ukp/members/someone", owner, body={"role": "writer"})
    upload = hub.begin(token, make_manifest(files=files))
    for content in files.values():
        path = f"/uploads/{upload.id}/blobs/{sha256(content)}"
        hub.call("PUT", path, token, data=content)

    hub.call("PUT", "/orgs/ukp/members/someone", owner, body={"role": None})

    refused = problem(hub.call("POST", f"/uploads/{upload.id}/commit", token))
    assert refused.code == "missing_role"
    assert hub.get("/adapters", owner).json["total"] == 0


def test_publishing_needs_an_organization(hub: Hub) -> None:
    draft = wire.UploadDraft(manifest=make_manifest("nli/multinli@nowhere"))

    refused = problem(hub.call("POST", "/uploads", hub.token("ukp"), body=draft))

    assert (refused.status, refused.code) == (404, "org_not_found")


def test_every_broken_rule_is_said_at_once(hub: Hub) -> None:
    manifest = make_manifest(
        files={"../up.json": b"a", "model.bin": b"b", "a.json": b"c", "A.json": b"d"}
    )

    refused = problem(
        hub.call("POST", "/uploads", hub.token("ukp"), body=wire.UploadDraft(manifest=manifest))
    )

    assert (refused.status, refused.code) == (422, "manifest_refused")
    assert [reason.split(" (")[0] for reason in refused.reasons] == [
        "the path '../up.json' has an empty, `.` or `..` part",
        "the path 'model.bin' is of a kind that is not allowed: a pickle may run code when it is loaded",
        "the paths 'a.json' and 'A.json' are the same on some file systems",
        "there is no .safetensors file",
    ]


def test_a_composition_pins_members_that_exist(hub: Hub) -> None:
    token, files = hub.token("ukp"), make_files()
    member = hub.publish(token, make_manifest(files=files), files)
    method = {"name": "fuse", "config_id": "c0ffee", "format": "composition"}

    def fused(digest: str) -> wire.Manifest:
        pinned = wire.Member(name="mnli", reference="nli/multinli@ukp", digest=digest)
        composition = wire.Composition(expression="fuse(mnli)", members=[pinned])
        return make_manifest("nli/fused@ukp", {}, method=method, composition=composition)

    absent = wire.UploadDraft(manifest=fused("sha256:" + "0" * 64))
    refused = problem(hub.call("POST", "/uploads", token, body=absent))
    published = hub.publish(token, fused(member.digest), {})

    assert "the member 'mnli'" in refused.reasons[0]
    assert published.number == 1


def test_a_composition_may_not_pin_what_its_author_cannot_read(hub: Hub) -> None:
    files = make_files()
    secret = hub.publish(hub.token("ukp"), make_manifest(files=files), files, private=True)
    member = wire.Member(name="mnli", reference="nli/multinli@ukp", digest=secret.digest)
    manifest = make_manifest(
        "nli/fused@other",
        {},
        method={"format": "composition"},
        composition=wire.Composition(expression="fuse(mnli)", members=[member]),
    )

    draft = wire.UploadDraft(manifest=manifest)
    refused = problem(hub.call("POST", "/uploads", hub.token("other"), body=draft))

    assert refused.code == "manifest_refused"


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        pytest.param(10**400, "a number is too large", id="a huge number"),
        pytest.param("a\0b", "a text has a NUL character", id="NUL"),
        pytest.param([[[]]] * 3, None, id="some nesting"),
    ],
)
def test_a_config_holds_only_what_json_and_databases_can(
    hub: Hub, value: object, reason: str | None
) -> None:
    draft = wire.UploadDraft(manifest=make_manifest(method={"config": {"key": [value]}}))

    answer = hub.call(
        "POST", "/uploads", hub.token("ukp"), data=json.dumps(plain(draft)), headers=JSON
    )

    assert (None if reason is None else [reason]) == (
        None if answer.status_code == 201 else problem(answer).reasons
    )


@pytest.mark.parametrize("depth", [33, 900, 100_000])
def test_a_config_that_is_nested_too_deep_is_refused(hub: Hub, depth: int) -> None:
    config = '{"a":' * depth + "1" + "}" * depth
    body = json.dumps(plain(wire.UploadDraft(manifest=make_manifest()))).replace(
        '"config": {}', f'"config": {config}'
    )

    answer = hub.call("POST", "/uploads", hub.token("ukp"), data=body, headers=JSON)

    assert problem(answer).code in {"manifest_refused", "malformed_body"}


def test_publishing_is_in_the_audit_log(hub: Hub) -> None:
    token, files = hub.token("ukp"), make_files()

    version = hub.publish(token, make_manifest(files=files), files)

    with hub.runtime.database.reading() as session:
        events = session.scalars(select(AuditEvent).order_by(AuditEvent.id)).all()
    assert [event.action for event in events][-2:] == ["adapter.create", "version.publish"]
    assert events[-1].detail == {"digest": version.digest, "number": 1}
    assert events[-1].request_id is not None


def test_sixteen_at_once_leave_no_gap_in_the_numbers(hub: Hub) -> None:
    token = hub.token("ukp")

    def publish(seed: int) -> int:
        files = {**make_files(), "adapter.safetensors": make_weights(seed)}
        return hub.publish(token, make_manifest(files=files), files).number

    with ThreadPoolExecutor(16) as pool:
        numbers = list(pool.map(publish, range(32)))

    assert sorted(numbers) == list(range(1, 33))


def test_sixteen_pushes_of_one_manifest_make_one_version(hub: Hub) -> None:
    files = make_files()
    tokens = [hub.token("ukp")]
    for number in range(3):
        tokens.append(hub.token(f"writer{number}"))
        body = {"role": "writer"}
        hub.call("PUT", f"/orgs/ukp/members/writer{number}", tokens[0], body=body)

    with ThreadPoolExecutor(16) as pool:
        versions = list(
            pool.map(
                lambda number: hub.publish(tokens[number % 4], make_manifest(files=files), files),
                range(16),
            )
        )

    assert len({version.digest for version in versions}) == 1
    assert {version.number for version in versions} == {1}
    assert versions_of(hub) == [1]


def test_new_adapters_of_one_new_task_may_come_at_once(hub: Hub) -> None:
    token, files = hub.token("ukp"), make_files()

    with ThreadPoolExecutor(16) as pool:
        versions = list(
            pool.map(
                lambda number: hub.publish(
                    token, make_manifest(f"fresh/a{number}@ukp", files), files
                ),
                range(16),
            )
        )

    assert {version.number for version in versions} == {1}
    with hub.runtime.database.reading() as session:
        assert session.scalars(select(Task.name)).all() == ["fresh"]


def test_a_manifest_survives_the_way_byte_by_byte(hub: Hub) -> None:
    token, files = hub.token("ukp"), make_files()
    manifest = make_manifest(
        files=files,
        description="größer als λ 😀",
        metrics=[wire.Metric(dataset="mnli", split="test", name="acc", value=1e-7, std=0.25)],
        heads=[wire.Head(name="mnli", type="classification", labels=["yes", "no"])],
        training=wire.Training(trainer="adapterhub", hyperparameters={"lr": 1e21, "n": 3.0}),
        languages=["en", "de"],
    )

    version = hub.publish(token, manifest, files)

    answer = hub.get(f"/manifests/{version.digest}")
    assert "sha256:" + sha256(answer.data) == version.digest
    assert msgspec.json.decode(answer.data, type=wire.Manifest) == manifest


LARGE = random.Random(1).randbytes(2 * PART_BYTES + 5)  # noqa: S311  # bytes to send, no secret


def begin_large(hub: Hub, token: str) -> tuple[wire.Upload, str, dict[str, bytes]]:
    """An upload whose one missing blob travels in three parts; the path of that blob."""
    files = {**make_files(), "large.txt": LARGE}
    hub.publish(token, make_manifest(files=make_files()), make_files())
    upload = hub.begin(token, make_manifest(files=files))
    return upload, f"/uploads/{upload.id}/blobs/{sha256(LARGE)}", files


def send_part(hub: Hub, token: str, part: wire.Part) -> int:
    content = LARGE[part.start : part.start + part.size_bytes]
    return hub.call("PUT", part.url.removeprefix("/api/v1"), token, data=content).status_code


def test_a_large_blob_travels_in_parts(hub: Hub) -> None:
    token = hub.token("ukp")
    upload, path, files = begin_large(hub, token)
    parts = ok(hub.get(f"{path}/parts", token), wire.Parts)

    sent = [send_part(hub, token, part) for part in reversed(parts.missing)]
    done = ok(hub.get(f"{path}/parts", token), wire.Parts)
    version = ok(hub.call("POST", f"/uploads/{upload.id}/commit", token), wire.Version)

    (target,) = upload.missing
    assert (target.in_parts, target.url) == (True, f"/api/v1{path}/parts")
    assert [part.size_bytes for part in parts.missing] == [PART_BYTES, PART_BYTES, 5]
    assert sent == [204, 204, 204]
    assert (done.received, done.received_bytes, done.missing) == ([1, 2, 3], len(LARGE), [])
    assert version.digest == wire.digest(make_manifest(files=files))
    assert hub.get(f"/blobs/{sha256(LARGE)}").data == LARGE


def test_only_parts_that_are_missing_are_asked_for_again(hub: Hub) -> None:
    token = hub.token("ukp")
    upload, path, files = begin_large(hub, token)
    parts = ok(hub.get(f"{path}/parts", token), wire.Parts).missing
    send_part(hub, token, parts[1])

    again = hub.begin(token, make_manifest(files=files))
    left = ok(hub.get(f"{path}/parts", token), wire.Parts)

    assert again.id == upload.id
    assert [target.sha256 for target in again.missing] == [sha256(LARGE)]
    assert (left.count, left.received) == (3, [2])
    assert [(part.number, part.start) for part in left.missing] == [(1, 0), (3, 2 * PART_BYTES)]


def test_a_commit_before_all_parts_is_refused_and_the_rest_may_follow(hub: Hub) -> None:
    token = hub.token("ukp")
    upload, path, _ = begin_large(hub, token)
    for part in ok(hub.get(f"{path}/parts", token), wire.Parts).missing[:2]:
        send_part(hub, token, part)

    refused = problem(hub.call("POST", f"/uploads/{upload.id}/commit", token))
    parts = ok(hub.get(f"{path}/parts", token), wire.Parts)
    for part in parts.missing:
        send_part(hub, token, part)

    assert refused.code == "upload_incomplete"
    assert [part.number for part in parts.missing] == [3]
    assert hub.call("POST", f"/uploads/{upload.id}/commit", token).status_code == 201


@pytest.mark.parametrize(
    ("number", "content", "status"),
    [
        pytest.param(0, b"", 404, id="part nought"),
        pytest.param(4, b"x", 404, id="one too many"),
        pytest.param(3, b"four", 422, id="too short"),
        pytest.param(3, b"sixsix", 422, id="too long"),
        pytest.param(3, b"", 422, id="nothing"),
    ],
)
def test_a_part_that_is_none_is_refused(hub: Hub, number: int, content: bytes, status: int) -> None:
    token = hub.token("ukp")
    _, path, _ = begin_large(hub, token)

    refused = hub.call("PUT", f"{path}/parts/{number}", token, data=content)

    assert problem(refused).status == status
    assert ok(hub.get(f"{path}/parts", token), wire.Parts).received == []


def test_parts_of_other_bytes_are_refused_and_have_to_be_sent_again(hub: Hub) -> None:
    token = hub.token("ukp")
    upload, path, _ = begin_large(hub, token)
    for part in ok(hub.get(f"{path}/parts", token), wire.Parts).missing:
        hub.call("PUT", part.url.removeprefix("/api/v1"), token, data=bytes(part.size_bytes))

    refused = problem(hub.call("POST", f"/uploads/{upload.id}/commit", token))

    assert (refused.code, len(refused.reasons)) == ("content_refused", 1)
    assert ok(hub.get(f"{path}/parts", token), wire.Parts).received == []
    assert versions_of(hub) == [1]


def test_parts_belong_to_who_began_the_upload(hub: Hub) -> None:
    token, other = hub.token("ukp"), hub.token("other")
    _, path, _ = begin_large(hub, token)

    for method, address in (("GET", f"{path}/parts"), ("PUT", f"{path}/parts/1")):
        assert problem(hub.call(method, address, other, data=b"x")).code == "upload_not_found"
    assert problem(hub.get(f"{path}/parts")).code == "token_required"


def packed(*contents: bytes) -> bytes:
    return b"".join(bytes.fromhex(sha256(content)) + content for content in contents)


def test_many_small_blobs_travel_in_one_request(hub: Hub) -> None:
    token, files = hub.token("ukp"), {**make_files(), "empty.txt": b""}
    upload = hub.begin(token, make_manifest(files=files))

    sent = hub.call("POST", f"/uploads/{upload.id}/blobs", token, data=packed(*files.values()))

    assert upload.batch == f"/api/v1/uploads/{upload.id}/blobs"
    assert (sent.status_code, hub.begin(token, make_manifest(files=files)).missing) == (204, [])
    assert hub.call("POST", f"/uploads/{upload.id}/commit", token).status_code == 201
    assert hub.get(f"/blobs/{sha256(files['README.md'])}").data == files["README.md"]


@pytest.mark.parametrize(
    ("body", "code"),
    [
        pytest.param(packed(b"# Adapter 0\n")[:-1], "bad_request", id="cut off"),
        pytest.param(b"x" * 20, "bad_request", id="half a digest"),
        pytest.param(packed(b"stranger"), "upload_not_found", id="a blob of no file"),
        pytest.param(
            bytes.fromhex(sha256(b"# Adapter 0\n")) + b"# Adapter 1\n",
            "content_refused",
            id="other bytes",
        ),
    ],
)
def test_what_is_wrong_in_a_batch_is_refused(hub: Hub, body: bytes, code: str) -> None:
    token, files = hub.token("ukp"), make_files()
    upload = hub.begin(token, make_manifest(files=files))

    refused = hub.call("POST", f"/uploads/{upload.id}/blobs", token, data=body)

    assert problem(refused).code == code
    assert len(hub.begin(token, make_manifest(files=files)).missing) == 3


def test_a_batch_holds_small_blobs_only(hub: Hub) -> None:
    token, files = hub.token("ukp"), {**make_files(), "big.txt": bytes(MIB + 1)}
    upload = hub.begin(token, make_manifest(files=files))

    refused = hub.call("POST", f"/uploads/{upload.id}/blobs", token, data=packed(files["big.txt"]))
    longer = hub.call("POST", f"/uploads/{upload.id}/blobs", token, data=bytes(5 * MIB))

    assert problem(refused).code == "bad_request"
    assert problem(longer).code == "too_large"


def test_a_small_blob_that_is_lost_before_the_commit_is_asked_for_again(hub: Hub) -> None:
    token, files = hub.token("ukp"), make_files()
    upload = hub.begin(token, make_manifest(files=files))
    hub.call("POST", f"/uploads/{upload.id}/blobs", token, data=packed(*files.values()))
    hub.runtime.store.remove(sha256(files["README.md"]))
    hub.clock.move(
        minutes=16
    )  # before that the store need not be asked: it has only just said that it has it

    refused = problem(hub.call("POST", f"/uploads/{upload.id}/commit", token))
    again = hub.begin(token, make_manifest(files=files))

    assert refused.reasons == [f"missing: {sha256(files['README.md'])}"]
    assert [target.sha256 for target in again.missing] == [sha256(files["README.md"])]


def test_values_that_are_not_finite_are_refused(hub: Hub) -> None:
    weights = bytearray(make_weights())
    weights[-4:] = b"\x00\x00\x80\x7f"
    token, files = hub.token("ukp"), {**make_files(), "adapter.safetensors": bytes(weights)}
    upload = hub.begin(token, make_manifest(files=files))
    hub.call("POST", f"/uploads/{upload.id}/blobs", token, data=packed(*files.values()))

    refused = problem(hub.call("POST", f"/uploads/{upload.id}/commit", token))

    assert refused.reasons == [
        "adapter.safetensors: the tensor 'adapter.down.weight' has values that are not finite"
    ]


@pytest.mark.parametrize("value", [1.0, float("nan")])
@pytest.mark.parametrize(
    "name",
    [
        pytest.param("a\0b", id="NUL"),
        pytest.param("\ud800x", id="half a pair"),
        pytest.param("x" * 1000, id="long"),
        pytest.param("\u00e9\u202e", id="turned round"),
    ],
)
def test_names_of_tensors_may_be_any_text(hub: Hub, name: str, value: float) -> None:
    data = struct.pack("<2f", value, 2.0)
    facts = {name: {"dtype": "F32", "shape": [2], "data_offsets": [0, len(data)]}}
    header = json.dumps(facts).encode()
    weights = len(header).to_bytes(8, "little") + header + data
    token, files = hub.token("ukp"), {**make_files(), "adapter.safetensors": weights}
    upload = hub.begin(token, make_manifest(files=files))

    for content in files.values():
        path = f"/uploads/{upload.id}/blobs/{sha256(content)}"
        assert hub.call("PUT", path, token, data=content).status_code == 204
    answers = [hub.call("POST", f"/uploads/{upload.id}/commit", token) for _ in range(2)]

    assert [each.status_code for each in answers] == ([201, 200] if value == 1 else [422, 422])
