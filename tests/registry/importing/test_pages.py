"""What is recorded without its weights shows as such on the pages."""

from tests.registry.conftest import Hub
from tests.registry.importing.reference import HOULSBY, Reference, adapter_zip

from adapterhub_registry.importing import importer

ENTRY = "ukp/bert-base-uncased_nli_multinli_pfeiffer"


def page(hub: Hub, path: str, status: int = 200) -> str:
    response = hub.client.get(path, headers={"Accept": "text/html"})
    assert response.status_code == status
    return response.text


def take(hub: Hub, reference: Reference, **options: bool) -> None:
    importer.run(hub.runtime, reference.folder, lambda _: None, **options)


def test_its_page_says_where_the_weights_are(hub: Hub, reference: Reference) -> None:
    reference.add(
        ENTRY,
        {"nd": adapter_zip()},
        dependencies=[{"key": "en/wiki@ukp", "description": "stacked <on> it"}],
        citation="@article{one}",
    )
    take(hub, reference, metadata_only=True)

    shown = page(hub, "/adapters/nli/multinli@ukp")

    assert "not mirrored" in shown
    assert "The weights are not here." in shown
    assert f"/{ENTRY}/nd.zip" in shown.replace("<wbr>", "").replace("\u200b", "")
    assert 'href="/adapters/en/wiki@ukp"' in shown
    assert "stacked &lt;on&gt; it" in shown
    assert "@article{one}" in shown
    assert "multi_nli" in shown
    assert "not mirrored" in page(hub, "/adapters?q=multinli")
    page(hub, "/adapters/nli/multinli@ukp:3")
    page(hub, "/adapters/nli/other@ukp", 404)


def test_the_page_of_a_version_says_what_is_missing_beside_it(
    hub: Hub, reference: Reference
) -> None:
    reference.add(ENTRY, {"1": adapter_zip()})
    reference.add("ukp/other", {"1": adapter_zip(1, config=HOULSBY)}, config={"using": "houlsby"})
    del reference.web.files["/ukp/other/1.zip"]
    take(hub, reference)

    shown = page(hub, "/adapters/nli/multinli@ukp")

    assert "1 more version whose weights are not here" in shown
    assert "The weights are not here." not in shown
