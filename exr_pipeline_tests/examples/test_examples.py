"""What `examples` shows works: assets per sequence and shot, another code location, the component in a project."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import dagster as dg
import pytest

from exr_pipeline.errors import MisconfiguredError
from exr_pipeline.orchestration.component import ExrPipelineComponent
from exr_pipeline.orchestration.instance.run_now import make_sequences
from exr_pipeline.orchestration.partition_inputs import folder_key
from exr_pipeline.storage.locations import Location
from exr_pipeline_tests.long_tests import takes_long
from exr_pipeline_tests.orchestration.conftest import Workshop, workshop
from exr_pipeline_tests.renders import render

__all__ = ["workshop"]
EXAMPLES = Path(__file__).parents[2] / "examples"
FILES = {
    "show/shot_010/beauty/a.1001.exr": render(),
    "show/shot_010/beauty/a.1002.exr": render(0.5),
    "show/shot_010/plate.exr": render(1.0),
    "show/shot_020/a.1001.exr": render(2.0),
    "show/shot_020/a.1002.exr": render(3.0),
}


def example(name: str, monkeypatch: pytest.MonkeyPatch, workshop: Workshop) -> ModuleType:
    """The module of an example, with the workshop's settings in its environment."""
    settings = workshop.pipeline.settings
    monkeypatch.setenv("EXR_PIPELINE_DATABASE", str(settings.database))
    monkeypatch.setenv("EXR_PIPELINE_SOURCES", ",".join(settings.sources))
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def materialize(defs: dg.Definitions, instance: dg.DagsterInstance, asset: str, **options: Any) -> dict[str, Any]:
    """Make one partition or range of an asset; what its metadata says."""
    job = defs.resolve_implicit_global_asset_job_def()
    result = job.execute_in_process(instance=instance, asset_selection=[dg.AssetKey(asset)], **options)
    events = result.asset_materializations_for_node(asset)
    return {name: value.value for name, value in events[0].metadata.items()}


@pytest.mark.filterwarnings("ignore:Parameter `(backfill_policy|owners)`")
def test_an_asset_per_sequence_gets_its_frames_and_one_per_shot_all_that_lies_below_it(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = workshop.put(FILES)
    assert workshop.select(partitions=keys, assets=["exr_header"]).success
    sequence = Location.from_url(f"{workshop.bucket.url}show/shot_010/beauty/a.%23%23%23%23.exr").partition_key
    shot = folder_key(f"{workshop.bucket.url}show/shot_010/")
    assert make_sequences(workshop.bucket, workshop.pipeline.settings) == {"ready": 2}
    workshop.instance.add_dynamic_partitions("shots", [shot])
    defs = example("shots", monkeypatch, workshop).defs

    sizes = [len(data) for data in FILES.values()]
    made = materialize(defs, workshop.instance, "sequence_size", partition_key=sequence)
    assert made == {"frames": 2, "bytes": sum(sizes[:2])}
    made = materialize(defs, workshop.instance, "shot_size", partition_key=shot)
    assert made == {
        "files": 3,
        "bytes": sum(sizes[:3]),
        "sequences": f"{workshop.bucket.url}show/shot_010/beauty/a.####.exr",
    }


@pytest.mark.filterwarnings("ignore:Parameter `(backfill_policy|owners)`")
def test_an_asset_of_another_code_location_reads_the_rows_of_its_partitions(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = workshop.put(FILES)
    assert workshop.select(partitions=keys, assets=["exr_header"]).success
    defs = example("other_location", monkeypatch, workshop).defs
    made = materialize(
        defs,
        workshop.instance,
        "delivery_note",
        tags={"dagster/asset_partition_range_start": keys[0], "dagster/asset_partition_range_end": keys[-1]},
    )
    assert made["files"] == len(FILES)
    assert f"{workshop.bucket.url}show/shot_010/plate.exr {len(FILES['show/shot_010/plate.exr'])}" in made["note"]
    ours = workshop.defs.resolve_asset_graph()
    theirs = defs.resolve_asset_graph()
    for key in theirs.external_asset_keys:
        assert theirs.get(key).partitions_def == ours.get(key).partitions_def


@takes_long
def test_dg_scaffolds_the_component_in_a_project_and_the_project_loads_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = tmp_path / "studio"
    (project / "studio/defs").mkdir(parents=True)
    (project / "studio/__init__.py").touch()
    (project / "studio/definitions.py").write_text(
        "from pathlib import Path\n\nimport dagster as dg\n\n"
        "defs = dg.load_from_defs_folder(project_root=Path(__file__).parents[1])\n"
    )
    (project / "pyproject.toml").write_text(
        '[tool.dg]\ndirectory_type = "project"\n\n[tool.dg.project]\nroot_module = "studio"\n'
    )
    component = "exr_pipeline.orchestration.component.ExrPipelineComponent"

    def dg_command(*arguments: str) -> str:
        command = [str(Path(sys.executable).with_name("dg")), *arguments]
        ended = subprocess.run(command, cwd=project, capture_output=True, text=True, timeout=600, check=False)
        assert ended.returncode == 0, ended.stdout + ended.stderr
        return ended.stdout

    monkeypatch.setenv("PYTHONPATH", str(project))
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    dg_command("scaffold", "defs", component, "renders")
    assert component in (project / "studio/defs/renders/defs.yaml").read_text()
    example_of_it = (EXAMPLES / "component/defs/renders/defs.yaml").read_text()
    (project / "studio/defs/renders/defs.yaml").write_text(example_of_it)
    listed = dg_command("list", "defs", "--json")
    for name in ("thumbnail", "sequence_mp4", "source_files"):
        assert f'"{name}"' in listed


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"chunk_sise": 5}, "chunk_sise: no such setting"),
        ({"chunk_size": "many"}, "chunk_size"),
        ({"s3_secret_key": "x"}, "S3_SECRET_KEY: a component's attributes must not hold a secret"),
    ],
)
def test_the_component_names_a_setting_that_is_unknown_wrong_or_secret(settings: dict[str, Any], said: str) -> None:
    component = ExrPipelineComponent(settings=settings)
    context = dg.ComponentTree.for_test().load_context
    with pytest.raises(MisconfiguredError, match=said):
        component.build_defs(context)
