"""What Alembic runs: the database comes from the caller, else from the settings."""

from alembic import context
from sqlalchemy import Connection

from adapterhub_registry.database import Database
from adapterhub_registry.models import Model
from adapterhub_registry.models.base import Moment
from adapterhub_registry.settings import from_environment


def as_standard(kind: str, item: object, _: object) -> str | bool:
    """A migration must not need today's code: our own column type is written as what it is in the database."""
    return "sa.DateTime(timezone=True)" if kind == "type" and isinstance(item, Moment) else False


def migrate(connection: Connection) -> None:
    context.configure(
        connection=connection,
        target_metadata=Model.metadata,
        render_as_batch=True,
        compare_type=True,
        render_item=as_standard,
    )
    with context.begin_transaction():
        context.run_migrations()


given = context.config.attributes.get("connection")
if given is not None:
    migrate(given)
else:
    database = Database(from_environment().database_url)
    with database.engine.connect() as own:
        migrate(own)
        own.commit()
    database.close()
