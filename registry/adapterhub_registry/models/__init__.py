"""The tables, one module per matter; importing this package knows them all."""

from adapterhub_registry.models.account import (
    Account,
    AuditEvent,
    Invitation,
    Membership,
    Organization,
    Throttle,
    Token,
)
from adapterhub_registry.models.adapter import Adapter, BaseModel, Task, Variant
from adapterhub_registry.models.base import Model
from adapterhub_registry.models.blob import Blob, BlobHold, Upload, UploadBlob, VersionFile
from adapterhub_registry.models.imports import (
    Architecture,
    ImportedEntry,
    ImportedFile,
    LegacyArchive,
    Subtask,
    TaskProfile,
)
from adapterhub_registry.models.lifecycle import ImportedBundle, RetiredName, Tombstone
from adapterhub_registry.models.metric import Dataset, DownloadDay, Metric
from adapterhub_registry.models.repository import (
    Repository,
    RepositoryBlob,
    RepositoryCommit,
    RepositoryMove,
    RepositoryRef,
)
from adapterhub_registry.models.search import (
    SearchCount,
    SearchDocument,
    SearchFacet,
    SearchScore,
    SearchTrigram,
)
from adapterhub_registry.models.version import Alias, Head, Lineage, Member, Version

__all__ = [
    "Account",
    "Adapter",
    "Alias",
    "Architecture",
    "AuditEvent",
    "BaseModel",
    "Blob",
    "BlobHold",
    "Dataset",
    "DownloadDay",
    "Head",
    "ImportedBundle",
    "ImportedEntry",
    "ImportedFile",
    "Invitation",
    "LegacyArchive",
    "Lineage",
    "Member",
    "Membership",
    "Metric",
    "Model",
    "Organization",
    "Repository",
    "RepositoryBlob",
    "RepositoryCommit",
    "RepositoryMove",
    "RepositoryRef",
    "RetiredName",
    "SearchCount",
    "SearchDocument",
    "SearchFacet",
    "SearchScore",
    "SearchTrigram",
    "Subtask",
    "Task",
    "TaskProfile",
    "Throttle",
    "Token",
    "Tombstone",
    "Upload",
    "UploadBlob",
    "Variant",
    "Version",
    "VersionFile",
]
