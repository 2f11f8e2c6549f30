"""Where versions come from and what depends on them, as far as each viewer may read."""

import pytest
from tests.factories import make_files, make_manifest
from tests.registry.conftest import Hub, ok, problem

from adapterhub_client import wire


def publish(hub: Hub, token: str, seed: int, reference: str, **more: object) -> wire.Version:
    files = make_files(seed)
    private = bool(more.pop("private", False))
    return hub.publish(token, make_manifest(reference, files, **more), files, private=private)


def fuse(hub: Hub, token: str, reference: str, *members: wire.Version, **more: object):
    named = {f"m{at}": member for at, member in enumerate(members)}
    composition = wire.Composition(
        expression=f"fuse({', '.join(named)})" if len(named) > 1 else "stack(m0)",
        members=[
            wire.Member(name=name, reference=each.reference, digest=each.digest)
            for name, each in named.items()
        ],
    )
    method = {"name": "fusion", "config_id": "f" * 16, "format": "composition"}
    seed = sum(map(ord, reference))
    return publish(hub, token, seed, reference, method=method, composition=composition, **more)


def around(hub: Hub, version: wire.Version, token: str | None = None, **query: int):
    extra = "".join(f"?{key}={value}" for key, value in query.items())
    return ok(hub.get(f"/versions/{version.digest}/lineage{extra}", token), wire.Relations)


@pytest.fixture
def token(hub: Hub) -> str:
    return hub.token("ukp")


def test_an_adapter_used_in_four_fusions_says_so(hub: Hub, token: str) -> None:
    mnli = publish(hub, token, 1, "nli/multinli@ukp")
    qqp = publish(hub, token, 2, "sts/qqp@ukp")
    fused = [fuse(hub, token, f"nli/fused{at}@ukp", mnli, qqp) for at in range(4)]

    found = around(hub, mnli)
    page = ok(hub.get("/adapters/nli/multinli@ukp"), wire.Adapter)

    assert (found.version.digest, found.used_in, found.dependants) == (mnli.digest, 4, 4)
    assert [each.digest for each in found.compositions] == [each.digest for each in fused[::-1]]
    assert (found.members, found.parents, found.children) == ([], [], [])
    assert page.used_in == {mnli.digest: 4}


def test_a_composition_names_its_members_and_parents(hub: Hub, token: str) -> None:
    parent = publish(hub, token, 1, "nli/multinli@ukp")
    lineage = [
        wire.Lineage(kind="parent", digest=parent.digest),
        wire.Lineage(kind="source", digest="sha256:" + "0" * 64),
    ]
    fused = fuse(hub, token, "nli/fused@ukp", parent, lineage=lineage)

    found = around(hub, fused)

    assert [(each.name, each.reference) for each in found.members] == [("m0", parent.reference)]
    assert found.members[0].version is not None
    assert found.members[0].version.digest == parent.digest
    assert [(each.kind, each.version is None) for each in found.parents] == [
        ("parent", False),
        ("source", True),
    ]
    assert [each.digest for each in around(hub, parent).children] == [fused.digest]


def test_dependants_are_counted_through_any_number_of_steps_and_once_each(
    hub: Hub, token: str
) -> None:
    root = publish(hub, token, 1, "nli/root@ukp")
    left, right = fuse(hub, token, "nli/left@ukp", root), fuse(hub, token, "nli/right@ukp", root)
    both = fuse(hub, token, "nli/both@ukp", left, right)
    lineage = [wire.Lineage(kind="parent", digest=both.digest)]
    leaf = publish(hub, token, 2, "nli/leaf@ukp", lineage=lineage)
    fuse(hub, token, "nli/top@ukp", leaf)

    found = around(hub, root)

    assert (found.used_in, found.dependants) == (2, 5)
    assert [around(hub, each).dependants for each in (left, both, leaf)] == [3, 2, 1]


def test_a1_what_is_private_is_neither_shown_nor_counted(hub: Hub, token: str) -> None:
    root = publish(hub, token, 1, "nli/root@ukp")
    hidden = fuse(hub, token, "nli/hidden@ukp", root, private=True)
    shown = fuse(hub, token, "nli/shown@ukp", root)
    secret = publish(hub, token, 3, "nli/secret@ukp", private=True)
    lineage = [wire.Lineage(kind="parent", digest=secret.digest)]
    child = publish(hub, token, 4, "nli/child@ukp", lineage=lineage)

    public, own = around(hub, root), around(hub, root, token)

    assert (public.used_in, public.dependants) == (1, 1)
    assert [each.digest for each in public.compositions] == [shown.digest]
    assert (own.used_in, own.dependants) == (2, 2)
    assert around(hub, child).parents[0].version is None
    assert around(hub, child, token).parents[0].version is not None
    unseen = hub.get(f"/versions/{hidden.digest}/lineage")
    unknown = hub.get(f"/versions/sha256:{'0' * 64}/lineage")
    assert problem(unseen).code == problem(unknown).code == "manifest_not_found"
    assert ok(hub.get("/adapters/nli/root@ukp"), wire.Adapter).used_in == {root.digest: 1}


def test_as_many_are_shown_as_are_asked_for_and_all_are_counted(hub: Hub, token: str) -> None:
    root = publish(hub, token, 1, "nli/root@ukp")
    for at in range(3):
        fuse(hub, token, f"nli/fused{at}@ukp", root)

    found = around(hub, root, limit=2)

    assert (len(found.compositions), found.used_in) == (2, 3)
    assert problem(hub.get(f"/versions/{root.digest}/lineage?limit=0")).code == "invalid_request"
