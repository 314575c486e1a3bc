"""An index for the review's random sample."""

from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Photos of a reason in the order of the queue."""
    op.create_index("photo_sample", "photo", ["reason", "state", "place"])


def downgrade() -> None:
    """Drop it."""
    op.drop_index("photo_sample", "photo")
