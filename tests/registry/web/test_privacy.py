"""Who may not read an adapter cannot tell it from one that does not exist."""

from tests.registry.conftest import Hub
from tests.registry.web import sample
from tests.registry.web.document import read

PLACES = (
    "/adapters/intent/secret@lab",
    "/adapters/intent/secret@lab:1",
    "/tasks/intent",
    "/adapters?q=secret",
    "/adapters?task=intent",
    "/tasks",
    "/bases",
    "/about",
    "/orgs/lab",
    "/",
)


def test_a_private_adapter_changes_no_public_page(hub: Hub):
    token = hub.token("lab")
    sample.publish(hub, token, "sts/open@lab", metrics=[sample.metric("tickets", "accuracy", 0.5)])
    places = (*PLACES, "/adapters/sts/open@lab")
    before = [hub.client.get(path, headers={"Accept": "text/html"}) for path in places]

    metrics = [sample.metric("tickets", "accuracy", 0.9)]
    sample.publish(hub, token, "intent/secret@lab", private=True, metrics=metrics)

    after = [hub.client.get(path, headers={"Accept": "text/html"}) for path in places]
    for path, old, new in zip(places, before, after, strict=True):
        assert (old.status_code, old.text) == (new.status_code, new.text), path
    assert after[0].status_code == 404


def test_a_member_sees_it_and_sees_that_it_is_private(catalogue: Hub):
    token = catalogue.token("lab")

    page = read(
        catalogue.client, "/adapters/intent/support-desk@lab", Authorization=f"Bearer {token}"
    )

    assert page.one("h1").text == "intent/support-desk@lab"
    assert [each.text for each in page.all("span", class_="private")] == ["private"]


def test_a_stranger_with_a_token_sees_no_more_than_the_public(catalogue: Hub):
    token = catalogue.token("ukp")

    page = read(
        catalogue.client, "/adapters/intent/support-desk@lab", 404, Authorization=f"Bearer {token}"
    )

    assert "support-desk" not in "".join(page.links)
