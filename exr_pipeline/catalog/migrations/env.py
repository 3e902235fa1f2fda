"""What Alembic runs for each upgrade: all revisions in the connection and transaction of `migrate`.

Belongs here: nothing else. Not here: a revision (`versions`).
"""

from alembic import context

from exr_pipeline.catalog.models import Model

context.configure(
    connection=context.config.attributes["connection"], target_metadata=Model.metadata, render_as_batch=True
)
context.run_migrations()
