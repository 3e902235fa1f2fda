"""Runs as Jobs of Kubernetes, beside runs of commands, which Dagster's own launcher would fail as missing Jobs.

Belongs here: that one difference. Not here: what a run does.
"""

from dagster_k8s import K8sRunLauncher

from exr_pipeline.orchestration.instance.command_runs import LooksAfterCommandRuns


class CommandAwareK8sRunLauncher(LooksAfterCommandRuns, K8sRunLauncher):
    """The launcher of deploy/kubernetes: for the runs that it launches, and those of commands."""
