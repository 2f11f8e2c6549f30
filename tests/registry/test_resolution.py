"""A reference stands for exactly one version, or says why not."""

from urllib.parse import quote

import pytest
from tests.factories import FINGERPRINT, OTHER_FINGERPRINT, make_files, make_manifest
from tests.registry.conftest import Hub, ok, problem

from adapterhub_client import wire


def publish(hub: Hub, token: str, seed: int = 0, **changes: object) -> wire.Version:
    files = make_files(seed)
    private = bool(changes.pop("private", False))
    reference = str(changes.pop("reference", "nli/multinli@ukp"))
    manifest = make_manifest(reference, files, **changes)
    return hub.publish(token, manifest, files, private=private)


def resolve(hub: Hub, ref: str, token: str | None = None, **query: str):
    extra = "".join(f"&{key}={quote(value)}" for key, value in query.items())
    return hub.get(f"/resolve?ref={quote(ref)}{extra}", token)


def resolved(hub: Hub, ref: str, token: str | None = None, **query: str) -> wire.Version:
    return ok(resolve(hub, ref, token, **query), wire.Resolution).version


def test_without_a_version_the_newest_answers(hub: Hub) -> None:
    token = hub.token("ukp")
    publish(hub, token, 1)
    newest = publish(hub, token, 2)

    answer = ok(resolve(hub, "nli/multinli@ukp"), wire.Resolution)

    assert answer.version == newest
    assert wire.digest(answer.manifest) == newest.digest
    assert answer.fell_back is False


@pytest.mark.parametrize("spelling", ["nli/multinli@ukp", "ukp/nli.multinli"])
def test_both_spellings_answer(hub: Hub, spelling: str) -> None:
    version = publish(hub, hub.token("ukp"))

    assert resolved(hub, spelling) == version


def test_a_number_an_alias_and_a_digest_pin(hub: Hub) -> None:
    token = hub.token("ukp")
    first = publish(hub, token, 1)
    publish(hub, token, 2)
    path = "/adapters/nli/multinli@ukp/aliases/stable"
    hub.call("PUT", path, token, body={"version": "1"})

    pins = ["1", "stable", first.digest]

    assert [resolved(hub, f"nli/multinli@ukp:{pin}") for pin in pins] == [first] * 3
    assert [resolved(hub, "nli/multinli@ukp", version=pin) for pin in pins] == [first] * 3


def test_an_alias_can_be_moved(hub: Hub) -> None:
    token = hub.token("ukp")
    publish(hub, token, 1)
    second = publish(hub, token, 2)
    for number in ("1", "2"):
        path = "/adapters/nli/multinli@ukp/aliases/stable"
        hub.call("PUT", path, token, body={"version": number})

    assert resolved(hub, "nli/multinli@ukp:stable") == second


def test_an_alias_of_another_adapter_does_not_answer(hub: Hub) -> None:
    token = hub.token("ukp")
    publish(hub, token, 1)
    publish(hub, token, 2, reference="nli/other@ukp")
    hub.call("PUT", "/adapters/nli/other@ukp/aliases/stable", token, body={"version": "1"})

    refused = problem(resolve(hub, "nli/multinli@ukp:stable"))

    assert refused.code == "version_not_found"


@pytest.mark.parametrize("base", [FINGERPRINT, "bert-base-uncased"])
def test_the_base_chooses_the_variant(hub: Hub, base: str) -> None:
    token = hub.token("ukp")
    wanted = publish(hub, token, 1)
    publish(hub, token, 2, base={"fingerprint": OTHER_FINGERPRINT, "name": "roberta-base"})

    assert resolved(hub, "nli/multinli@ukp", base=base) == wanted


def test_one_base_may_have_two_names(hub: Hub) -> None:
    token = hub.token("ukp")
    publish(hub, token, 1)
    second = publish(hub, token, 2, base={"name": "google-bert/bert-base-uncased"})

    assert second.number == 2
    assert resolved(hub, "nli/multinli@ukp", base="bert-base-uncased") == second


def test_several_bases_are_ambiguous_and_listed(hub: Hub) -> None:
    token = hub.token("ukp")
    versions = [
        publish(hub, token, 1),
        publish(hub, token, 2, base={"fingerprint": OTHER_FINGERPRINT}),
    ]

    refused = problem(resolve(hub, "nli/multinli@ukp"))

    assert (refused.status, refused.code) == (409, "ambiguous")
    assert {each.digest for each in refused.candidates} == {each.digest for each in versions}


def test_several_configs_for_one_base_are_ambiguous(hub: Hub) -> None:
    token = hub.token("ukp")
    publish(hub, token, 1)
    publish(hub, token, 2, method={"name": "lora", "config_id": "1234"})

    assert problem(resolve(hub, "nli/multinli@ukp", base=FINGERPRINT)).code == "ambiguous"


@pytest.mark.parametrize("config", ["lora", "1234"])
def test_the_config_chooses_by_name_or_id(hub: Hub, config: str) -> None:
    token = hub.token("ukp")
    publish(hub, token, 1)
    wanted = publish(hub, token, 2, method={"name": "lora", "config_id": "1234"})

    assert resolved(hub, "nli/multinli@ukp", config=config) == wanted


def test_an_unknown_base_is_refused_with_what_there_is(hub: Hub) -> None:
    version = publish(hub, hub.token("ukp"))

    refused = problem(resolve(hub, "nli/multinli@ukp", base="gpt2"))

    assert (refused.status, refused.code) == (409, "no_variant_for_base")
    assert refused.candidates == [version]


def test_another_config_answers_only_when_it_may_and_says_so(hub: Hub) -> None:
    version = publish(hub, hub.token("ukp"))

    refused = problem(resolve(hub, "nli/multinli@ukp", config="houlsby"))
    fallen = ok(resolve(hub, "nli/multinli@ukp", config="houlsby", fallback="1"), wire.Resolution)

    assert (refused.code, refused.candidates) == ("no_variant_for_config", [version])
    assert (fallen.version, fallen.fell_back) == (version, True)


def test_falling_back_never_leaves_the_base(hub: Hub) -> None:
    publish(hub, hub.token("ukp"))

    refused = resolve(hub, "nli/multinli@ukp", base="gpt2", config="houlsby", fallback="1")

    assert problem(refused).code == "no_variant_for_base"


def test_the_organization_is_always_honoured(hub: Hub) -> None:
    publish(hub, hub.token("ukp"))
    hub.token("other")

    refused = problem(resolve(hub, "nli/multinli@other"))

    assert (refused.status, refused.code) == (404, "adapter_not_found")
    assert refused.nearest == ["nli/multinli@ukp"]


def test_a_private_adapter_is_missing_for_strangers_and_not_for_members(hub: Hub) -> None:
    token = hub.token("ukp")
    version = publish(hub, token, private=True)
    hub.token("stranger")

    for stranger in (None, hub.token("stranger")):
        refused = problem(resolve(hub, "nli/multinli@ukp", stranger))
        absent = problem(resolve(hub, "nli/absent@ukp", stranger))
        assert (refused.code, refused.nearest) == (absent.code, absent.nearest)
    assert resolved(hub, "nli/multinli@ukp", token) == version


def test_a_yanked_version_is_passed_over_but_pins_still_hold(hub: Hub) -> None:
    token = hub.token("ukp")
    first, second = publish(hub, token, 1), publish(hub, token, 2)
    path = "/adapters/nli/multinli@ukp/versions/2/yank"
    hub.call("POST", path, token, body={"reason": "trained on the test set"})

    assert resolved(hub, "nli/multinli@ukp") == first
    for pin in ("2", second.digest):
        pinned = resolved(hub, f"nli/multinli@ukp:{pin}")
        assert (pinned.status, pinned.reason) == ("yanked", "trained on the test set")


def test_when_all_is_yanked_that_is_said(hub: Hub) -> None:
    token = hub.token("ukp")
    publish(hub, token, 1)
    hub.call("PUT", "/adapters/nli/multinli@ukp/aliases/stable", token, body={"version": "1"})
    path = "/adapters/nli/multinli@ukp/versions/1/yank"
    hub.call("POST", path, token, body={"reason": "wrong"})

    for ref in ("nli/multinli@ukp", "nli/multinli@ukp:stable"):
        refused = problem(resolve(hub, ref))
        assert (refused.status, refused.code) == (410, "yanked")
        assert [each.status for each in refused.candidates] == ["yanked"]


def test_a_deprecated_version_still_answers_and_says_why(hub: Hub) -> None:
    token = hub.token("ukp")
    publish(hub, token)
    path = "/adapters/nli/multinli@ukp/versions/1/deprecate"
    hub.call("POST", path, token, body={"reason": "there is a better one"})

    version = resolved(hub, "nli/multinli@ukp")

    assert (version.status, version.reason) == ("deprecated", "there is a better one")


def test_a_yanked_version_can_be_restored(hub: Hub) -> None:
    token = hub.token("ukp")
    publish(hub, token)
    path = "/adapters/nli/multinli@ukp/versions/1"
    hub.call("POST", f"{path}/yank", token, body={"reason": "wrong"})

    hub.call("POST", f"{path}/restore", token)

    assert resolved(hub, "nli/multinli@ukp").status == "active"


def test_an_unknown_version_is_refused_with_what_there_is(hub: Hub) -> None:
    version = publish(hub, hub.token("ukp"))

    refused = problem(resolve(hub, "nli/multinli@ukp:7"))

    assert (refused.status, refused.code) == (404, "version_not_found")
    assert refused.candidates == [version]


def test_a_number_that_two_variants_have_is_ambiguous(hub: Hub) -> None:
    token = hub.token("ukp")
    publish(hub, token, 1)
    publish(hub, token, 2, base={"fingerprint": OTHER_FINGERPRINT})

    refused = problem(resolve(hub, "nli/multinli@ukp:1"))

    assert (refused.code, len(refused.candidates)) == ("ambiguous", 2)


def test_two_different_pins_are_refused(hub: Hub) -> None:
    publish(hub, hub.token("ukp"))

    assert problem(resolve(hub, "nli/multinli@ukp:1", version="2")).code == "invalid_request"


@pytest.mark.parametrize("text", ["nli", "NLI/multinli@ukp", "nli/multinli@ukp:", "nli/m@api", ""])
def test_what_is_no_reference_is_refused(hub: Hub, text: str) -> None:
    refused = problem(resolve(hub, text))

    assert (refused.status, refused.code) == (422, "malformed_name")


def test_only_writers_change_a_version(hub: Hub) -> None:
    publish(hub, hub.token("ukp"))
    path = "/adapters/nli/multinli@ukp/versions/1/yank"

    codes = [
        problem(hub.call("POST", path, token, body={"reason": "x"})).code
        for token in (None, hub.token("ukp", "read"), hub.token("stranger"))
    ]

    assert codes == ["token_required", "missing_scope", "missing_role"]
