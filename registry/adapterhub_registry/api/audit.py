"""What was changed, by whom and when."""

from flask import Blueprint

from adapterhub_client import wire
from adapterhub_registry import errors
from adapterhub_registry.api.document import TOKEN, answers, api
from adapterhub_registry.request import session, viewer
from adapterhub_registry.service import audit

blueprint = Blueprint("audit", __name__)


@blueprint.get("/audit")
@api.validate(
    resp=answers(
        wire.AuditPage,
        errors.TokenRequired,
        errors.MissingScope,
        errors.MissingRole,
        errors.TokenElsewhere,
        errors.OrganizationNotFound,
    ),
    tags=["accounts"],
    security=TOKEN,
    operation_id="read_audit_log",
)
def read(query: audit.Asked) -> wire.AuditPage:
    """The audit log, the newest first.

    Of an organization for its admins, of everything for administrators of the registry, else of what you did.
    """
    return audit.read(session(), viewer(), query)
