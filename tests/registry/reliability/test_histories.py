"""Any history of publishing, withdrawing, deleting and renaming: what the registry says is what a simple model says.

Numbers are never given twice, what was deleted is gone for good, and nothing else changes with it.
"""

import shutil
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck
from hypothesis import settings as bounded
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from tests.factories import make_files, make_manifest
from tests.registry.conftest import Clock, Hub, ok

from adapterhub_client import wire
from adapterhub_registry.app import create_app
from adapterhub_registry.service import garbage, integrity
from adapterhub_registry.settings import from_environment
from adapterhub_registry.storage import MemoryStore

NAMES = ("nli/one@ukp", "nli/two@ukp")
ALIASES = ("stable", "next")
EXAMPLES, STEPS = 25, 30


class History(RuleBasedStateMachine):
    """The registry beside a model of it: for each name the state of each number, and where its aliases point."""

    template: Path

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        shutil.copyfile(self.template, self.folder / "registry.sqlite")
        settings = from_environment(
            {"ADAPTERHUB_HOME": str(self.folder), "ADAPTERHUB_SECRET_KEY": "for tests"}
        )
        clock = Clock()
        self.hub = Hub(create_app(settings, store=MemoryStore(), clock=clock), clock)
        self.token = self.hub.token("ukp")
        self.states: dict[str, dict[int, str]] = {name: {} for name in NAMES}
        self.digests: dict[tuple[str, int], str] = {}
        self.aliases: dict[str, dict[str, int]] = {name: {} for name in NAMES}
        self.retired: set[str] = set()
        self.tokens: dict[str, tuple[int, bool]] = {}
        self.seed = 0

    def teardown(self) -> None:
        self.hub.runtime.database.close()
        shutil.rmtree(self.folder)

    def _call(self, method: str, path: str, body: Any = None) -> Any:
        more = {} if body is None else {"body": body}
        return self.hub.call(method, path, self.token, **more)

    def _there(self, name: str) -> dict[int, str]:
        return {number: state for number, state in self.states[name].items() if state != "deleted"}

    @rule(name=st.sampled_from(NAMES))
    def publish(self, name: str) -> None:
        self.seed += 1
        files = make_files(self.seed)
        if name in self.retired:
            draft = wire.UploadDraft(manifest=make_manifest(name, files))
            assert self._call("POST", "/uploads", draft).status_code == 409
            return
        made = self.hub.publish(self.token, make_manifest(name, files), files)
        assert made.number == len(self.states[name]) + 1
        self.states[name][made.number] = "active"
        self.digests[name, made.number] = made.digest

    @rule(
        name=st.sampled_from(NAMES),
        at=st.integers(1, 4),
        verb=st.sampled_from(["yank", "deprecate", "restore"]),
    )
    def change(self, name: str, at: int, verb: str) -> None:
        body = {} if verb == "restore" else {"reason": "as the test wants it"}
        answer = self._call("POST", f"/adapters/{name}/versions/{at}/{verb}", body)

        if at in self._there(name):
            assert answer.status_code == 200, answer.text
            self.states[name][at] = {
                "yank": "yanked",
                "deprecate": "deprecated",
                "restore": "active",
            }[verb]
        else:
            assert answer.status_code in {404, 410}

    @rule(name=st.sampled_from(NAMES), at=st.integers(1, 4))
    def delete_version(self, name: str, at: int) -> None:
        answer = self._call("DELETE", f"/adapters/{name}/versions/{at}?reason=x")

        if at in self._there(name):
            assert answer.status_code == 200, answer.text
            self.states[name][at] = "deleted"
            self.aliases[name] = {key: to for key, to in self.aliases[name].items() if to != at}
        else:
            assert answer.status_code in {404, 410}

    @precondition(lambda self: self.seed > 4)
    @rule(name=st.sampled_from(NAMES))
    def delete_adapter(self, name: str) -> None:
        answer = self._call("DELETE", f"/adapters/{name}?reason=x")

        if self.states[name] and name not in self.retired:
            assert answer.status_code == 200, answer.text
            self.states[name] = dict.fromkeys(self.states[name], "deleted")
            self.aliases[name] = {}
            self.retired.add(name)
        else:
            assert answer.status_code in {404, 410}

    @rule(name=st.sampled_from(NAMES), alias=st.sampled_from(ALIASES), at=st.integers(1, 3))
    def point(self, name: str, alias: str, at: int) -> None:
        answer = self._call("PUT", f"/adapters/{name}/aliases/{alias}", {"version": str(at)})

        if at in self._there(name):
            assert answer.status_code == 200, answer.text
            self.aliases[name][alias] = at
        else:
            assert answer.status_code in {404, 410}

    @rule(name=st.sampled_from(NAMES), alias=st.sampled_from(ALIASES))
    def forget(self, name: str, alias: str) -> None:
        answer = self._call("DELETE", f"/adapters/{name}/aliases/{alias}")

        there = self.aliases[name].pop(alias, None)
        assert answer.status_code == 204 if there else answer.status_code in {404, 410}

    @rule()
    def make_token(self) -> None:
        made = ok(self._call("POST", "/tokens", {"label": "x"}), wire.Token)
        self.tokens[made.secret or ""] = (made.id, True)

    @precondition(lambda self: self.tokens)
    @rule(data=st.data())
    def revoke_token(self, data: st.DataObject) -> None:
        at = data.draw(st.integers(0, len(self.tokens) - 1))
        secret, (token_id, works) = list(self.tokens.items())[at]
        answer = self._call("DELETE", f"/tokens/{token_id}")
        assert answer.status_code == (204 if works else 404)
        self.tokens[secret] = (token_id, False)

    @rule()
    def collect(self) -> None:
        self.hub.clock.move(days=2)
        garbage.sweep(self.hub.runtime)

    @invariant()
    def every_pin_answers_as_it_should(self) -> None:
        for name, states in self.states.items():
            for number, state in states.items():
                digest = self.digests[name, number]
                pinned = self.hub.get(f"/resolve?ref={name}:{number}")
                assert pinned.status_code == (410 if state == "deleted" else 200), (
                    name,
                    number,
                    state,
                )
                manifest = self.hub.get(f"/manifests/{digest}")
                assert manifest.status_code == (410 if state == "deleted" else 200)
                if state != "deleted":
                    version = ok(pinned, wire.Resolution).version
                    assert (version.number, version.digest, version.status) == (
                        number,
                        digest,
                        state,
                    )

    @invariant()
    def a_name_answers_with_its_newest_that_is_offered(self) -> None:
        for name, states in self.states.items():
            offered = [
                number for number, state in states.items() if state not in {"deleted", "yanked"}
            ]
            answer = self.hub.get(f"/resolve?ref={name}")
            if offered:
                assert ok(answer, wire.Resolution).version.number == max(offered)
            else:
                assert answer.status_code in {404, 410}

    @invariant()
    def aliases_point_where_they_were_pointed(self) -> None:
        for name, aliases in self.aliases.items():
            for alias in ALIASES:
                answer = self.hub.get(f"/resolve?ref={name}:{alias}")
                number = aliases.get(alias)
                if number is None:
                    assert answer.status_code in {404, 410}
                elif self.states[name][number] == "yanked":
                    assert answer.status_code in {200, 410}
                else:
                    assert ok(answer, wire.Resolution).version.number == number

    @invariant()
    def tokens_work_until_they_are_revoked(self) -> None:
        for secret, (_, works) in self.tokens.items():
            assert self.hub.get("/whoami", secret).status_code == (200 if works else 401)

    @invariant()
    def lists_and_counts_agree(self) -> None:
        page = ok(self.hub.get("/adapters"), wire.AdapterPage)
        there = {name for name in NAMES if self._there(name)}
        assert {item.reference for item in page.items} == there
        assert page.total == len(there)

    @invariant()
    def nothing_is_lost(self) -> None:
        assert list(integrity.check(self.hub.runtime)) == []


@pytest.mark.timeout(600)
def test_any_history_is_what_the_model_says(sqlite_template: Path) -> None:
    History.template = sqlite_template

    run_state_machine_as_test(
        History,
        settings=bounded(
            max_examples=EXAMPLES,
            stateful_step_count=STEPS,
            deadline=None,
            derandomize=True,
            suppress_health_check=list(HealthCheck),
        ),
    )
