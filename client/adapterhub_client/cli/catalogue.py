"""Look into the catalogue: search, show, resolve."""

from typing import TYPE_CHECKING

import click

from adapterhub_client.cli import output

if TYPE_CHECKING:
    from adapterhub_client.wire import Adapter, AdapterPage, Metric


@click.command()
@click.argument("query", nargs=-1)
@click.option("--task", help="only this task")
@click.option("--base", help="only this base model: a name or a fingerprint")
@click.option("--org", help="only this organization")
@click.option("--method", help="only this method, such as seq_bn")
@click.option("--limit", default=20, show_default=True, type=click.IntRange(1, 100))
@click.option("--after", help="go on where the last page ended")
@output.connected
@output.json_option
def search(  # noqa: PLR0913 - one option each
    *,
    query: tuple[str, ...],
    task: str | None,
    base: str | None,
    org: str | None,
    method: str | None,
    limit: int,
    after: str | None,
    url: str | None,
    token: str | None,
    as_json: bool,
) -> None:
    """List adapters whose name or description has the words of QUERY."""
    with output.hub(url, token) as hub:
        page = hub.search(
            " ".join(query), limit=limit, after=after, task=task, base=base, org=org, method=method
        )
    output.data(page, as_json=as_json, text=lambda: _page(page))


@click.command()
@click.argument("reference")
@output.connected
@output.json_option
def show(reference: str, url: str | None, token: str | None, *, as_json: bool) -> None:
    """Show an adapter with its variants and versions."""
    with output.hub(url, token) as hub:
        adapter = hub.show(reference)
    output.data(adapter, as_json=as_json, text=lambda: _adapter(adapter))


@click.command()
@click.argument("reference")
@click.option("--base", help="a model's folder, a fingerprint or a name")
@click.option("--config", help="a method such as seq_bn, or a config id")
@click.option("--fallback", is_flag=True, help="take another config when this one is not there")
@output.connected
@output.json_option
def resolve(  # noqa: PLR0913 - one option each
    *,
    reference: str,
    base: str | None,
    config: str | None,
    url: str | None,
    token: str | None,
    fallback: bool,
    as_json: bool,
) -> None:
    """Print the one version REFERENCE stands for, pinned by its digest."""
    with output.hub(url, token) as hub:
        found = hub.resolve(reference, base=base, config=config, fallback=fallback)
    if found.fell_back:
        output.note(
            f"warning: no version has the config {config}; this one has {found.version.method}"
        )
    version = found.version
    output.data(found, as_json=as_json, text=f"{version.reference}:{version.digest}")


def _page(page: "AdapterPage") -> None:
    rows = [
        [
            item.reference,
            ", ".join(item.bases),
            ", ".join(item.methods),
            _metric(item.metrics),
            item.description,
        ]
        for item in page.items
    ]
    output.table(["adapter", "base", "method", "metric", "description"], rows)
    shown = f"{len(page.items)} of {page.total} adapters"
    output.note(f"{shown}; more with --after {page.next}" if page.next else shown)


def _adapter(adapter: "Adapter") -> None:
    summary = adapter.summary
    click.echo(summary.reference)
    if summary.description:
        click.echo(output.plain(summary.description))
    visibility = "private" if summary.private else "public"
    click.echo(
        f"license {output.plain(summary.license or 'not stated')}, {visibility}, {summary.downloads} downloads"
    )
    click.echo()
    output.table(
        ["version", "status", "base", "fingerprint", "method", "size", "digest", "published"],
        [
            [
                str(version.number),
                version.status,
                version.base.name,
                (version.base.fingerprint or "none")[:19],
                version.method,
                output.size(version.size_bytes),
                version.digest[:19],
                version.created_at[:10],
            ]
            for version in adapter.versions
        ],
    )
    for metric in summary.metrics:
        click.echo(output.plain(f"{metric.dataset} {metric.split} {_metric([metric])}"))


def _metric(metrics: "list[Metric]") -> str:
    if not metrics:
        return ""
    spread = f" ± {metrics[0].std:.3f}" if metrics[0].std is not None else ""
    return f"{metrics[0].name} {metrics[0].value:.3f}{spread}"
