"""Make a catalogue as large as wanted, by bulk inserts: every row a publish would make but the bytes of its files.

    python tests/benchmarks/catalogue.py URL --adapters 200000 --versions 1000000

The names, tasks, bases and methods are spread as in real hubs: a few are very frequent, most are rare. Manifests are
real: canonical, with the digests they are found by. What search reads is made by the same code as everywhere.
"""

import argparse
import hashlib
import itertools
import random
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import rfc8785
from sqlalchemy import Connection, Table, func, insert, select

from adapterhub_client import wire
from adapterhub_registry import migration
from adapterhub_registry.database import Database
from adapterhub_registry.models import (
    Account,
    Adapter,
    BaseModel,
    Blob,
    Dataset,
    Head,
    Membership,
    Metric,
    Model,
    Organization,
    Task,
    Variant,
    Version,
    VersionFile,
)
from adapterhub_registry.service import indexing
from adapterhub_registry.settings import from_environment

TASKS = [
    *("nli", "sentiment", "sts", "qa", "ner", "pos", "lm", "summarization", "intent", "toxicity"),
    *("topic", "paraphrase", "coref", "parsing", "rerank", "retrieval", "translation", "emotion"),
    *("stance", "irony", "hate", "claim", "entailment", "code", "dialog", "keyword", "spam"),
]
WORDS = [
    *("multi", "single", "cross", "open", "clean", "noisy", "small", "large", "news", "film"),
    *("legal", "bio", "clinical", "social", "tweet", "forum", "patent", "science", "math", "web"),
    *("child", "elder", "north", "south", "east", "west", "gold", "silver", "base", "deep"),
    *("quick", "slow", "blue", "green", "amber", "delta", "gamma", "omega", "prime", "nova"),
]
METHODS = ["seq_bn", "lora", "double_seq_bn", "prefix_tuning", "ia3", "compacter", "prompt", "reft"]
ARCHITECTURES = ["bert", "roberta", "distilbert", "xlm-roberta", "gpt2", "t5", "llama", "mbert"]
LANGUAGES = ["en", "de", "fr", "es", "zh", "ja", "ar", "hi", "pt", "ru", "sw", "fi", "tr", "et"]
LICENSES = ["apache-2.0", "mit", "cc-by-4.0", "cc-by-nc-4.0", None]
HEADS = ["classification", "tagging", "question_answering", "causal_lm", "multilabel"]
METRICS = [("acc", True), ("f1", True), ("spearman", True), ("loss", False), ("bleu", True)]
BASES, DATASETS = 400, 500
_AT_ONCE = 2000
_BEGINNING = datetime(2020, 1, 1, tzinfo=UTC)
_PRIVATE = 0.03


class Size(msgspec.Struct, frozen=True):
    """How large a catalogue is."""

    adapters: int
    versions: int

    @property
    def organizations(self) -> int:
        """One for forty adapters."""
        return max(2, self.adapters // 40)


def fill(database: Database, size: Size, told: Callable[[str], object], seed: int = 7) -> None:
    """Fill an empty, migrated database."""
    chance = random.Random(seed)  # noqa: S311  # the same catalogue each time
    began = time.perf_counter()
    with database.engine.execution_options(adapterhub_writes=True).begin() as connection:
        _surroundings(connection, size)
        for done in _adapters(connection, size, chance):
            told(f"{done:,} of {size.adapters:,} adapters, {time.perf_counter() - began:.0f} s")
        _mend_sequences(connection)
    with database.writing() as session:
        indexing.rebuild(
            session,
            lambda done: (
                told(f"{done:,} indexed, {time.perf_counter() - began:.0f} s")
                if done % (_AT_ONCE * 10) == 0
                else None
            ),
        )
    with database.engine.execution_options(adapterhub_writes=True).begin() as connection:
        connection.exec_driver_sql("ANALYZE")
    told(
        f"{size.versions:,} versions of {size.adapters:,} adapters in {time.perf_counter() - began:.0f} s"
    )


def full_name(number: int, size: Size) -> str:
    """The name of an adapter; 0 is the first."""
    chance = random.Random(number)  # noqa: S311  # a name follows from its number
    words = "-".join(chance.sample(WORDS, 2))
    organization = int(size.organizations * chance.random() ** 2)
    return f"{_frequent(chance, TASKS)}/{words}-{number}@org{organization}"


def _surroundings(connection: Connection, size: Size) -> None:
    """What there is before any adapter."""
    connection.execute(
        insert(Account), [{"id": 1, "name": "org0", "is_admin": False, "created_at": _BEGINNING}]
    )
    organizations = [
        {"id": number + 1, "name": f"org{number}", "created_at": _BEGINNING}
        for number in range(size.organizations)
    ]
    _insert(connection, Organization, organizations)
    connection.execute(
        insert(Membership), [{"organization_id": 1, "account_id": 1, "role": "writer"}]
    )
    _insert(connection, Task, [{"id": at, "name": name} for at, name in enumerate(TASKS, 1)])
    bases = [{"id": at + 1, "key": _base(at).fingerprint} for at in range(BASES)]
    _insert(connection, BaseModel, [{**row, "fingerprint": row["key"]} for row in bases])
    datasets = [{"id": at + 1, "name": f"dataset-{at}"} for at in range(DATASETS)]
    _insert(connection, Dataset, datasets)
    content = [
        {"sha256": _sha256(f"file {at}"), "size_bytes": 3_600_000, "created_at": _BEGINNING}
        for at in range(1000)
    ]
    _insert(connection, Blob, content)


def _adapters(connection: Connection, size: Size, chance: random.Random) -> Iterator[int]:
    """Insert adapters with all that hangs on them; yield how many there are."""
    variant_ids, version_ids = itertools.count(1), itertools.count(1)
    for first in range(0, size.adapters, _AT_ONCE):
        rows: dict[type[Model], list[dict[str, Any]]] = {
            model: [] for model in (Adapter, Variant, Version, VersionFile, Head, Metric)
        }
        last = min(first + _AT_ONCE, size.adapters)
        for number in range(first, last):
            begin = size.versions * number // size.adapters
            count = size.versions * (number + 1) // size.adapters - begin
            _adapter(rows, (number, count), size, chance, (variant_ids, version_ids))
        for model, of_model in rows.items():
            _insert(connection, model, of_model)
        yield last


def _adapter(
    rows: dict[type[Model], list[dict[str, Any]]],
    which: tuple[int, int],
    size: Size,
    chance: random.Random,
    ids: tuple[Iterator[int], Iterator[int]],
) -> None:
    number, count = which
    name = full_name(number, size)
    task, rest = name.split("/")
    short, organization = rest.split("@")
    made = _BEGINNING + timedelta(minutes=15 * number)
    languages = sorted({_frequent(chance, LANGUAGES) for _ in range(2)})
    described = f"{short} for {task}, trained on {chance.choice(WORDS)} {chance.choice(WORDS)} text"
    license_name = _frequent(chance, LICENSES)
    rows[Adapter].append(
        {
            "id": number + 1,
            "organization_id": int(organization.removeprefix("org")) + 1,
            "task_id": TASKS.index(task) + 1,
            "name": short,
            "full_name": name,
            "private": chance.random() < _PRIVATE,
            "description": described,
            "license": license_name,
            "languages": languages,
            "downloads": int(chance.paretovariate(0.8)) - 1,
            "created_at": made,
            "updated_at": made + timedelta(minutes=chance.randrange(500_000)),
        }
    )
    left = count
    pairs = itertools.islice(_pairs(chance), max(1, count // 3))
    for at, (base, method) in enumerate(pairs):
        here = left if at == max(1, count // 3) - 1 else min(left, 3)
        left -= here
        variant_id = next(ids[0])
        config_id = _sha256(method)[:16]
        rows[Variant].append(
            {
                "id": variant_id,
                "adapter_id": number + 1,
                "base_model_id": base + 1,
                "config_id": config_id,
                "method": method,
            }
        )
        for version in range(1, here + 1):
            manifest = wire.Manifest(
                reference=wire.Name(task=task, name=short, org=organization),
                base=_base(base),
                method=wire.Method(name=method, config={"r": 8, "v": version}, config_id=config_id),
                heads=[wire.Head(name="default", type=_frequent(chance, HEADS), labels=["a", "b"])],
                files=[
                    wire.File(
                        path=path,
                        sha256=_sha256(f"file {chance.randrange(1000)}"),
                        size_bytes=3_600_000,
                    )
                    for path in ("adapter.safetensors", "adapter_config.json")
                ],
                metrics=_measured(chance),
                description=described,
                license=license_name,
                languages=languages,
            )
            _version(rows, manifest, (next(ids[1]), variant_id, version), made)


def _version(
    rows: dict[type[Model], list[dict[str, Any]]],
    manifest: wire.Manifest,
    key: tuple[int, int, int],
    made: datetime,
) -> None:
    version_id, variant_id, number = key
    canonical = rfc8785.dumps(msgspec.to_builtins(manifest))
    rows[Version].append(
        {
            "id": version_id,
            "variant_id": variant_id,
            "number": number,
            "digest": "sha256:" + hashlib.sha256(canonical).hexdigest(),
            "manifest": canonical,
            "format": "adapters",
            "base": msgspec.to_builtins(manifest.base),
            "base_name": manifest.base.name,
            "size_bytes": manifest.size_bytes,
            "status": "yanked" if version_id % 50 == 0 else "active",
            "reason": "wrong data" if version_id % 50 == 0 else None,
            "created_at": made + timedelta(hours=number),
            "created_by_id": 1,
        }
    )
    rows[VersionFile] += [
        {"version_id": version_id, "path": file.path, "sha256": file.sha256}
        for file in manifest.files
    ]
    rows[Head] += [
        {
            "version_id": version_id,
            "position": at,
            "name": each.name,
            "type": each.type,
            "labels": each.labels,
        }
        for at, each in enumerate(manifest.heads)
    ]
    rows[Metric] += [
        {
            "version_id": version_id,
            "position": at,
            "dataset_id": int(each.dataset.removeprefix("dataset-")) + 1,
            "split": each.split,
            "name": each.name,
            "value": each.value,
            "std": each.std,
            "seeds": each.seeds,
            "higher_is_better": each.higher_is_better,
        }
        for at, each in enumerate(manifest.metrics)
    ]


def _pairs(chance: random.Random) -> Iterator[tuple[int, str]]:
    """Bases and methods, each pair once."""
    seen: set[tuple[int, str]] = set()
    while True:
        pair = (int(BASES * chance.random() ** 4), _frequent(chance, METHODS))
        if pair not in seen:
            seen.add(pair)
            yield pair


def _measured(chance: random.Random) -> list[wire.Metric]:
    name, higher_is_better = _frequent(chance, METRICS)
    value = round(chance.betavariate(8, 3), 4)
    dataset = f"dataset-{int(DATASETS * chance.random() ** 3)}"
    return [
        wire.Metric(
            dataset=dataset,
            split="test",
            name=name,
            value=value,
            std=0.01,
            seeds=[1, 2, 3],
            higher_is_better=higher_is_better,
        )
    ]


def _base(number: int) -> wire.Base:
    architecture = ARCHITECTURES[number % len(ARCHITECTURES)]
    return wire.Base(
        name=f"{architecture}-{number}",
        architecture=architecture,
        fingerprint="sha256:" + _sha256(f"base {number}"),
        hidden_size=768,
        layers=12,
    )


def _frequent(chance: random.Random, choices: Sequence[Any]) -> Any:
    """The first most, the last seldom."""
    return choices[int(len(choices) * chance.random() ** 2)]


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _insert(connection: Connection, model: type[Model], rows: list[dict[str, Any]]) -> None:
    """COPY on PostgreSQL, one prepared statement on SQLite."""
    if not rows:
        return
    table = model.__table__
    assert isinstance(table, Table)
    if connection.dialect.name != "postgresql":
        connection.execute(insert(model), rows)
        return
    columns = [table.c[name] for name in rows[0]]
    kept = [
        column.type.dialect_impl(connection.dialect).bind_processor(connection.dialect)
        for column in columns
    ]
    named = ", ".join(f'"{column.name}"' for column in columns)
    with connection.connection.cursor().copy(f'COPY "{table.name}" ({named}) FROM STDIN') as copy:  # type: ignore[attr-defined]
        for row in rows:
            copy.write_row(
                [
                    _plain(process(value) if process is not None and value is not None else value)
                    for process, value in zip(kept, row.values(), strict=True)
                ]
            )


def _plain(value: object) -> object:
    return msgspec.json.encode(value).decode() if isinstance(value, list | dict) else value


def _mend_sequences(connection: Connection) -> None:
    """Rows came with their ids; PostgreSQL's counters go on after them."""
    if connection.dialect.name != "postgresql":
        return
    for model in (Account, Organization, Task, BaseModel, Dataset, Adapter, Variant, Version):
        name = model.__tablename__
        last = connection.execute(select(func.max(model.id))).scalar_one()
        connection.exec_driver_sql(
            f"SELECT setval(pg_get_serial_sequence('{name}', 'id'), {int(last)})"
        )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("url", help="an empty database")
    parser.add_argument("--adapters", type=int, default=20_000)
    parser.add_argument("--versions", type=int, default=100_000)
    given = parser.parse_args()
    settings = from_environment(
        {"ADAPTERHUB_DATABASE_URL": given.url, "ADAPTERHUB_SECRET_KEY": "none"}
    )
    database = Database(settings.database_url)
    migration.migrate(database)
    size = Size(given.adapters, given.versions)
    fill(database, size, told=lambda line: sys.stderr.write(f"{line}\n"))
    database.close()


if __name__ == "__main__":
    main()
