"""Settings: what wins, and what is kept secret."""

import stat

import pytest

from adapterhub_client import settings
from adapterhub_client.errors import UsageError, WrongToken


def test_an_argument_wins_over_the_environment_and_that_over_the_file(tmp_path):
    environment = {"ADAPTERHUB_CONFIG": str(tmp_path / "client.json")}
    settings.remember("http://file", "from-file", environment)

    from_file = settings.load(environment=environment)
    from_environment = settings.load(
        environment={**environment, "ADAPTERHUB_URL": "http://environment"}
    )
    from_argument = settings.load(
        "http://argument", environment={**environment, "ADAPTERHUB_URL": "http://environment"}
    )

    assert (from_file.url, from_file.token) == ("http://file", "from-file")
    assert from_environment.url == "http://environment"
    assert from_argument.url == "http://argument"


def test_a_stored_token_goes_to_its_own_hub_only(tmp_path):
    environment = {"ADAPTERHUB_CONFIG": str(tmp_path / "client.json")}
    settings.remember("http://mine", "secret", environment)

    assert settings.load("http://other", environment=environment).token is None
    assert settings.load("http://mine/", environment=environment).token == "secret"


def test_the_file_is_readable_by_its_owner_only(tmp_path):
    path = settings.remember(
        "http://mine", "secret", {"ADAPTERHUB_CONFIG": str(tmp_path / "deep" / "client.json")}
    )

    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_several_hubs_are_remembered(tmp_path):
    environment = {"ADAPTERHUB_CONFIG": str(tmp_path / "client.json")}
    settings.remember("http://one", "1", environment)
    settings.remember("http://two", "2", environment)

    assert settings.load("http://one", environment=environment).token == "1"
    assert settings.load(environment=environment).url == "http://two"


def test_a_token_is_not_shown():
    assert "secret" not in repr(settings.load("http://mine", "secret", environment={}))


def test_a_damaged_file_is_named(tmp_path):
    (tmp_path / "client.json").write_text("{")

    with pytest.raises(UsageError, match=r"client\.json' is damaged"):
        settings.load(environment={"ADAPTERHUB_CONFIG": str(tmp_path / "client.json")})


def test_a_token_from_the_environment_is_for_the_hub_in_the_environment():
    environment = {"ADAPTERHUB_URL": "http://mine", "ADAPTERHUB_TOKEN": "secret"}

    assert settings.load(environment=environment).token == "secret"
    assert settings.load("http://mine/", environment=environment).token == "secret"
    assert settings.load("http://other", environment=environment).token is None
    assert settings.load("http://any", environment={"ADAPTERHUB_TOKEN": "secret"}).token == "secret"


def test_white_space_around_a_token_is_dropped():
    assert settings.load("http://mine", " secret\n", environment={}).token == "secret"


@pytest.mark.parametrize("token", ["sec ret", "sécret", "a\nb"])
def test_a_token_that_cannot_be_one_is_refused_without_showing_it(token):
    with pytest.raises(WrongToken) as refusal:
        settings.load("http://mine", token, environment={})

    assert token not in str(refusal.value)


@pytest.mark.parametrize(
    "url", ["hub.example", "ftp://hub", "file:///etc", "http://h:84o0", "http://"]
)
def test_an_address_that_is_none_is_refused(url):
    with pytest.raises(UsageError, match="no address of a hub"):
        settings.load(url, environment={})
