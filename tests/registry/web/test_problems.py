"""Problems are pages for people and problems for machines."""

import pytest
from tests.registry.conftest import Hub
from tests.registry.web.document import Page, read

from adapterhub_registry.errors import InternalError, MissingRole

BROWSER = {"Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}


@pytest.mark.parametrize(
    ("path", "accept", "mimetype"),
    [
        pytest.param("/nowhere", BROWSER["Accept"], "text/html", id="browser"),
        pytest.param("/nowhere", "*/*", "application/problem+json", id="any"),
        pytest.param("/nowhere", "application/json", "application/problem+json", id="json"),
        pytest.param(
            "/api/v1/nowhere", BROWSER["Accept"], "application/problem+json", id="api in a browser"
        ),
        pytest.param("/adapters/a/b@c", BROWSER["Accept"], "text/html", id="no such adapter"),
        pytest.param("/adapters/A/b@c", BROWSER["Accept"], "text/html", id="no reference"),
    ],
)
def test_who_asks_decides(catalogue: Hub, path: str, accept: str, mimetype: str):
    response = catalogue.client.get(path, headers={"Accept": accept})

    assert response.status_code in {404, 422}
    assert response.mimetype == mimetype
    assert int(response.headers["Content-Length"]) == len(response.data)


def test_a_caching_proxy_is_told_that_it_depends_on_who_asks(catalogue: Hub):
    assert "Accept" in catalogue.client.get("/nowhere", headers=BROWSER).vary
    assert "Accept" in catalogue.client.get("/nowhere").vary


@pytest.mark.parametrize(
    ("error", "status", "heading"),
    [
        pytest.param(MissingRole("ukp", "writer"), 403, "This is not for you", id="forbidden"),
        pytest.param(InternalError(), 500, "This is our fault", id="failed"),
    ],
)
def test_every_refusal_has_a_page(hub: Hub, error: Exception, status: int, heading: str):
    def fail():
        raise error

    hub.app.add_url_rule("/fails", view_func=fail)

    page = read(hub.client, "/fails", status)

    assert page.one("h1").text == heading
    assert "/adapters" in page.links


def test_a_wrong_method_says_which_are_allowed(catalogue: Hub):
    response = catalogue.client.post("/tasks", headers=BROWSER)

    assert response.status_code == 405
    assert "GET" in response.headers["Allow"]
    assert "POST is not for" in Page(response.text).text


def test_a_wrong_token_is_said_on_a_page(catalogue: Hub):
    page = read(catalogue.client, "/", 401, Authorization="Bearer ahub_wrong")

    assert page.one("h1").text == "Who are you?"
