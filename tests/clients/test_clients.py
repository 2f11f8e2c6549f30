"""What people already use works here unchanged: every operation of every client, on every store there is."""

import pytest
from tests.clients import run


@pytest.mark.timeout(600)
@pytest.mark.parametrize("store", ["folder", "s3"])
def test_unmodified_clients_do_all_they_can(store, capsys):
    if store not in run.stores():
        pytest.skip("no S3: AWS_ENDPOINT_URL_S3 and S3_BUCKET name none")
    try:
        clients = run.environments()
    except run.Unavailable as error:
        pytest.skip(f"no clients: {error}")

    results = run.run(store, clients)

    with capsys.disabled():
        print("\n" + run.table(store, results))  # noqa: T201  # the table is what is asked for
    assert run.faults_of(results) == []
    assert set(results) == set(clients)
    assert all(results.values())
