"""What others may import, exactly."""

import adapterhub_client


def test_the_client_offers_exactly_these_names():
    assert adapterhub_client.__all__ == [
        "Details",
        "Hub",
        "HubError",
        "Manifest",
        "Metric",
        "Reference",
        "parse",
    ]


def test_every_public_name_is_there():
    for name in adapterhub_client.__all__:
        assert getattr(adapterhub_client, name) is not None
