"""Runs as tasks of Amazon ECS, beside runs of commands, which Dagster's own launcher would fail as missing tasks.

Belongs here: that one difference. Not here: what a run does.
"""

from dagster_aws.ecs import EcsRunLauncher

from exr_pipeline.orchestration.instance.command_runs import LooksAfterCommandRuns


class CommandAwareEcsRunLauncher(LooksAfterCommandRuns, EcsRunLauncher):
    """The launcher of deploy/ecs: for the runs that it launches, and those of commands."""
