"""The deployment's Celery application with one task more, which lasts until it is killed: a run that takes long."""

import time

from exr_pipeline.orchestration.instance.celery_app import app


@app.task(name="hold")
def hold() -> None:
    time.sleep(3600)
