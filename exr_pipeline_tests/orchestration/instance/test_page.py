"""Dagster's page as users see it: `exr-pipeline ui`, a dropped file, a backfill, a picture in a browser."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import expect

from exr_pipeline.settings import Settings
from exr_pipeline.storage.embedded import EmbeddedS3
from exr_pipeline.storage.locations import Location
from exr_pipeline.storage.objects import ObjectStorage
from exr_pipeline.tables import TableStore, open_table_store
from exr_pipeline_tests.browser import browser_page
from exr_pipeline_tests.hostile_texts import BEACON, MARKDOWN, exr_rejected_with
from exr_pipeline_tests.orchestration.test_runs import ASSETS, PICTURES
from exr_pipeline_tests.renders import render, with_bad_pixels

ROOT = Path(__file__).parents[3]
CHUNK_SIZE = 3


@dataclass
class Page:
    """The running page: GraphQL as the page itself uses it, the store that the sensor watches, and the command line."""

    url: str
    storage: ObjectStorage
    tables: TableStore
    bucket: Location
    log: Path
    folder: Path
    environment: dict[str, str]

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """A command in the folder where the page was started."""
        command = [sys.executable, "-m", "exr_pipeline.cli", *arguments]
        return subprocess.run(
            command, cwd=self.folder, env=self.environment, capture_output=True, text=True, timeout=300, check=True
        )

    def ask(self, query: str, **variables: Any) -> Any:
        body = json.dumps({"query": query, "variables": variables}).encode()
        request = urllib.request.Request(f"{self.url}/graphql", body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=300) as answer:
            found = json.load(answer)
        assert "errors" not in found, found
        return found["data"]

    def put(self, files: dict[str, bytes]) -> list[str]:
        locations = [self.bucket.child(key) for key in files]
        for location, data in zip(locations, files.values(), strict=True):
            self.storage.write(location, data, content_type="application/octet-stream", tags={})
        return [location.partition_key for location in locations]

    def statuses(self, asset: str) -> dict[str, set[str]]:
        """Partition keys by status, from the query behind the page's list of partitions."""
        node = self.ask(
            """query($key: AssetKeyInput!) { assetNodeOrError(assetKey: $key) { ... on AssetNode {
                 assetPartitionStatuses { ... on DefaultPartitionStatuses {
                   materializedPartitions failedPartitions materializingPartitions } } } } }""",
            key={"path": [asset]},
        )["assetNodeOrError"]["assetPartitionStatuses"]
        return {name.removesuffix("Partitions"): set(keys) for name, keys in node.items()}

    def materializations(self, asset: str, partition: str) -> int:
        node = self.ask(
            """query($key: AssetKeyInput!, $partitions: [String!]) { assetNodeOrError(assetKey: $key) {
                 ... on AssetNode { assetMaterializations(partitions: $partitions) { runId } } } }""",
            key={"path": [asset]},
            partitions=[partition],
        )["assetNodeOrError"]
        return len(node["assetMaterializations"])

    def ranges(self, backfill: str) -> list[tuple[str, str]]:
        """First and last partition of each run of a backfill."""
        runs = self.ask(
            """query($tags: [ExecutionTag!]) { runsOrError(filter: {tags: $tags}) {
                 ... on Runs { results { tags { key value } } } } }""",
            tags=[{"key": "dagster/backfill", "value": backfill}],
        )["runsOrError"]["results"]
        tags = [{tag["key"]: tag["value"] for tag in run["tags"]} for run in runs]
        start, end, only = (
            f"dagster/{name}" for name in ("asset_partition_range_start", "asset_partition_range_end", "partition")
        )
        return sorted((each.get(start) or each[only], each.get(end) or each[only]) for each in tags)


def wait_for(condition: Callable[[], bool], seconds: float, what: str) -> None:
    started = time.monotonic()
    while not condition():
        assert time.monotonic() - started < seconds, f"{what}: not within {seconds:.0f} s"
        time.sleep(0.5)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory, s3_server: EmbeddedS3) -> Iterator[Page]:
    folder = tmp_path_factory.mktemp("clone")
    for name in ("dagster.yaml", "workspace.yaml"):
        shutil.copy(ROOT / name, folder)
    bucket = Location("s3", "page", "")
    s3_server.create_bucket("page")
    port = free_port()
    quick = {"EXR_PIPELINE_SENSOR_INTERVAL_SECONDS": "2", "EXR_PIPELINE_SETTLE_SECONDS": "1"}
    quick["EXR_PIPELINE_CHUNK_SIZE"] = str(CHUNK_SIZE)
    environment = os.environ | s3_server.environment() | {"EXR_PIPELINE_SOURCES": bucket.url} | quick
    environment.pop("DAGSTER_HOME", None)
    with (
        (folder / "ui.log").open("wb") as log,
        subprocess.Popen(
            [sys.executable, "-m", "exr_pipeline.cli", "ui", "--port", str(port)],
            cwd=folder,
            env=environment,
            stdout=log,
            stderr=subprocess.STDOUT,
        ) as process,
    ):
        settings = Settings(
            _env_file=None,
            s3_endpoint=s3_server.endpoint,
            s3_access_key=s3_server.access_key,
            s3_secret_key=s3_server.secret_key,
            state_dir=folder / ".state",
        )
        served = Page(
            f"http://127.0.0.1:{port}",
            ObjectStorage(settings),
            open_table_store(settings),
            bucket,
            folder / "ui.log",
            folder,
            environment,
        )
        try:
            wait_for(lambda: process.poll() is None and is_up(served), 600, "the page")
            yield served
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(60)
    log_text = (folder / "ui.log").read_text()
    assert s3_server.secret_key not in log_text, "the log holds a secret"


def is_up(page: Page) -> bool:
    try:
        found = page.ask("{ repositoriesOrError { __typename ... on RepositoryConnection { nodes { name } } } }")
    except OSError:
        return False
    return bool(found["repositoriesOrError"].get("nodes"))


def test_what_the_command_has_to_say_comes_last_and_stays_in_sight(page: Page) -> None:
    def says_where() -> bool:
        return "Ctrl-C" in page.log.read_text()

    wait_for(says_where, 60, "where the page is")
    # As long as it takes for several looks at the sources.
    time.sleep(5)
    assert page.log.read_text().splitlines()[-2:] == [
        f"Watching {page.bucket.url}",
        f"Dagster: {page.url}  (press Ctrl-C to stop)",
    ]


def test_what_the_page_and_its_runs_keep_is_for_their_user_alone(page: Page) -> None:
    (key,) = page.put({"shot/private.0001.exr": render()})
    wait_for(lambda: key in page.statuses("proxy_outputs")["materialized"], 600, "a run")
    kept = [path for path in (page.log.parent / ".state").rglob("*") if not path.is_symlink()]
    assert len(kept) > 10
    assert [path for path in kept if path.exists() and path.stat().st_mode & 0o077] == []


def test_a_dropped_file_becomes_a_materialized_partition_without_a_click(page: Page) -> None:
    (key,) = page.put({"shot/dropped.0001.exr": render(size=(320, 180))})
    wait_for(lambda: key in page.statuses("proxy_outputs")["materialized"], 600, "the dropped file")
    for asset in [*ASSETS, "source_file"]:
        assert key in page.statuses(asset)["materialized"]
    assert page.tables.read("files").to_pylist()[0]["state"] == "ready"


def test_a_file_that_is_uploaded_again_is_ingested_again(page: Page) -> None:
    (key,) = page.put({"shot/again.0001.exr": render(0.1)})
    wait_for(lambda: page.materializations("thumbnail", key) == 1, 600, "the first version")
    page.put({"shot/again.0001.exr": render(2.0)})
    wait_for(lambda: page.materializations("thumbnail", key) == 2, 600, "the second version")
    current = [row for row in page.tables.read("files").to_pylist() if row["file_path"] == "shot/again.0001.exr"]
    assert len(current) == 1
    assert current[0]["etag"] == page.storage.head(page.bucket.child("shot/again.0001.exr")).etag


def test_a_backfill_over_a_subset_with_a_bad_file_is_split_into_chunks_and_leaves_exact_statuses(page: Page) -> None:
    files = {f"fill/a.{frame:04d}.exr": render() for frame in range(1, 7)}
    files["fill/a.0003.exr"] = with_bad_pixels()
    keys = page.put(files)
    bad = keys[2]
    wait_for(lambda: set(keys) <= page.statuses("exr_header")["materialized"], 600, "the sensor's run")
    wait_for(lambda: bad in page.statuses("thumbnail")["failed"], 600, "the bad file's failure")
    before = {key: page.materializations("thumbnail", key) for key in keys}
    launched = page.ask(
        """mutation($params: LaunchBackfillParams!) { launchPartitionBackfill(backfillParams: $params) {
             __typename ... on LaunchBackfillSuccess { backfillId } ... on PythonError { message } } }""",
        params={"assetSelection": [{"path": ["thumbnail"]}], "partitionNames": keys[1:5]},
    )["launchPartitionBackfill"]
    assert launched["__typename"] == "LaunchBackfillSuccess", launched

    def ended() -> bool:
        answer = page.ask(
            """query($id: String!) { partitionBackfillOrError(backfillId: $id) {
                 ... on PartitionBackfill { status numCancelable } } }""",
            id=launched["backfillId"],
        )["partitionBackfillOrError"]
        return answer["status"] in {"COMPLETED_SUCCESS", "COMPLETED_FAILED"}

    wait_for(ended, 600, "the backfill")
    assert page.ranges(launched["backfillId"]) == [(keys[1], keys[1 + CHUNK_SIZE - 1]), (keys[4], keys[4])]
    after = {key: page.materializations("thumbnail", key) for key in keys}
    again = {keys[1], keys[3], keys[4]}
    assert after == {key: count + (key in again) for key, count in before.items()}
    for asset in ASSETS:
        statuses = page.statuses(asset)
        assert statuses["failed"] & set(keys) == ({bad} if asset in PICTURES else set()), asset
        assert not statuses["materializing"]


def test_a_rejected_file_is_a_line_on_the_console_and_no_stack_trace(page: Page) -> None:
    (key,) = page.put({"console/notes.exr": b"not an image"})
    wait_for(lambda: key in page.statuses("exr_header")["failed"], 600, "the rejection")
    line = f"rejected: {page.bucket.child('console/notes.exr').url}: not an OpenEXR, DPX or Cineon file"
    wait_for(lambda: line in page.log.read_text(), 300, "the line")
    # Of a step's last lines Dagster's copy of its output may lose some, of the run's none.
    wait_for(lambda: "RUN_FAILURE" in page.log.read_text().partition(line)[2], 300, "the end of its run")
    assert "dagster._core.definitions.events.Failure" not in page.log.read_text(), "a stack trace follows"


def test_the_reason_of_a_rejected_file_is_three_clicks_away_and_on_the_page_of_each_of_its_assets(page: Page) -> None:
    name = "why/was good.0001.exr"
    page.put({name: render()})
    (key,) = page.put({name: render()})
    wait_for(lambda: key in page.statuses("thumbnail")["materialized"], 600, "the good version")
    page.put({name: b"<b>not</b> an image"})
    (never,) = page.put({"why/never.exr": b"never was"})
    wait_for(lambda: {key, never} <= page.statuses("thumbnail")["failed"], 600, "the rejection")
    reason = "not an OpenEXR, DPX or Cineon file: it begins with 3c 62 3e 6e"
    with browser_page() as view:
        view.set_default_timeout(300_000)
        view.goto(page.url, wait_until="domcontentloaded")
        view.get_by_text("Failures").click()
        row = view.get_by_role("row").filter(has_text=name.replace(" ", "%20"))
        assert reason in row.inner_text()
        row.get_by_role("link", name="thumbnail").click()
        view.locator("#exr-pipeline-reason").filter(has_text=reason).wait_for()
        shown = [(asset, key, reason) for asset in [*ASSETS, "source_file"]]
        for asset, partition, why in [*shown, ("source_file", never, "it begins with 6e 65 76 65")]:
            view.goto(f"{page.url}/assets/{asset}?view=partitions&partition={partition}")
            view.get_by_text(why).first.wait_for()
        page.put({name: render()})
        view.goto(f"{page.url}/assets/thumbnail?view=partitions&partition={key}")
        view.locator("#exr-pipeline-reason").wait_for(state="hidden", timeout=600_000)


def test_the_browser_loads_and_runs_nothing_that_a_file_or_its_name_says(page: Page) -> None:
    name = MARKDOWN.replace("/", "\u2215")
    (key,) = page.put({f"hostile/{name}.exr": exr_rejected_with(MARKDOWN)})
    wait_for(lambda: key in page.statuses("exr_header")["failed"], 600, "the hostile file's failure")
    runs = page.ask(
        "{ runsOrError(filter: {statuses: [FAILURE]}) { ... on Runs { results { runId tags { value } } } } }"
    )["runsOrError"]["results"]
    (run,) = [run["runId"] for run in runs if key in {tag["value"] for tag in run["tags"]}]
    with browser_page() as view:
        requested: list[str] = []
        view.on("request", lambda request: requested.append(request.url))
        view.on("dialog", lambda dialog: requested.append(dialog.message))
        view.on("dialog", lambda dialog: dialog.dismiss())
        # Dagster measures long names in texts that nobody sees.
        shown = view.get_by_text("onerror").filter(visible=True)
        for address in (f"/assets/exr_header?view=partitions&partition={key}", "/failures"):
            view.goto(page.url + address, wait_until="domcontentloaded")
            shown.first.wait_for(timeout=300_000)
        view.goto(f"{page.url}/runs/{run}", wait_until="domcontentloaded")
        # The table of files with their reasons, in the row of the step's failure.
        view.locator("td").filter(has_text="onerror").first.wait_for(timeout=300_000)
        assert not view.locator(f"img[src='{BEACON}'], a[href^='javascript:']").count()
        # Dagster makes a link of an address in a message: it says where it leads, and does not tell where from.
        for link in view.locator(f"a[href='{BEACON}']").all():
            assert (link.inner_text(), "noreferrer" in (link.get_attribute("rel") or "")) == (BEACON, True)
    assert not [url for url in requested if not url.startswith((page.url, "data:"))]


def test_the_browser_plays_a_movie_that_the_page_links_to(page: Page) -> None:
    (key,) = page.put({"play/film.0001.exr": render(size=(320, 180))})
    wait_for(lambda: key in page.statuses("proxy_mp4")["materialized"], 600, "the movie")
    with browser_page() as view:
        view.goto(f"{page.url}/assets/proxy_mp4?view=partitions&partition={key}", wait_until="domcontentloaded")
        with view.expect_popup(timeout=300_000) as opened:
            view.get_by_role("link", name=f"/media/proxy_mp4/{key}").click(timeout=300_000)
        movie = opened.value.locator("video")
        movie.wait_for(timeout=300_000)
        width, duration = movie.evaluate(
            """async video => {
                 video.muted = true;
                 await video.play();
                 return [video.videoWidth, video.duration];
               }"""
        )
        assert (width, duration) == (320, pytest.approx(1.0, abs=0.05))
        sought = movie.evaluate(
            """video => new Promise(done => {
                 video.pause();
                 video.onseeked = () => done(video.currentTime);
                 video.currentTime = 0.5;
               })"""
        )
        assert sought == pytest.approx(0.5, abs=0.05)


def test_the_browser_shows_the_graph_and_a_partition_with_its_picture(page: Page) -> None:
    (key,) = page.put({"look/at me, #1 été.0001.exr": render(4.0, size=(320, 180))})
    wait_for(lambda: key in page.statuses("thumbnail")["materialized"], 600, "the file to look at")
    with browser_page() as view:
        view.goto(f"{page.url}/assets/thumbnail?view=partitions&partition={key}", wait_until="domcontentloaded")
        picture = view.locator("img[src^='data:image/webp']").first
        picture.wait_for(timeout=300_000)
        width, height = picture.evaluate("image => [image.naturalWidth, image.naturalHeight]")
        assert (width, height) == (128, 72)
        picture = view.locator(f"img[src='/media/thumbnail/{key}']")
        picture.wait_for(timeout=300_000)
        assert picture.evaluate("image => image.decode().then(() => image.naturalWidth)") == 256
        assert view.get_by_text("sRGB - Display / ACES 1.0 - SDR Video").first.is_visible()
        view.goto(f"{page.url}/asset-groups", wait_until="domcontentloaded")
        for group in ("sources", "metadata", "pictures"):
            view.get_by_text(group, exact=True).first.wait_for(timeout=300_000)


def test_runs_of_the_command_line_are_in_the_timeline_and_on_the_page_of_their_job(page: Page) -> None:
    (key,) = page.put({"bad/no_exr.0001.exr": b"no EXR at all"})
    wait_for(lambda: key in page.statuses("exr_header")["failed"], 600, "the bad file")
    page.run("retry", page.bucket.child("bad/").url)
    # No sensor starts this job.
    (run,) = page.ask("""{ runsOrError(filter: {pipelineName: "retry_failed_files"}) {
        ... on Runs { results { id } } } }""")["runsOrError"]["results"]
    with browser_page() as view:
        view.goto(f"{page.url}/overview/activity/timeline", wait_until="domcontentloaded")
        view.get_by_text("retry_failed_files", exact=True).first.wait_for(timeout=300_000)
        view.goto(f"{page.url}/locations/exr_pipeline/jobs/retry_failed_files/runs", wait_until="domcontentloaded")
        view.get_by_text(run["id"][:8]).first.wait_for(timeout=300_000)


def test_sequences_can_be_told_apart_in_the_list_of_partitions(page: Page) -> None:
    folder = Location("s3", "renders", "show/")
    sequences = [
        folder.child(f"{path}_{name}.####.exr")
        for path, name in (
            ("shot_010/beauty/shot_010", "beauty"),
            ("shot_010/comp/shot_010", "comp_v002"),
            ("shot_020/beauty/shot_020", "beauty"),
            ("shot_020/mattes/shot_020", "mattes"),
            ("shot_020/plates/A042C007", "240517_R1ZQ"),
            ("shot_020/plates/A042C008", "240517_R1ZQ"),
        )
    ]
    sequences += [folder.child(f"{shot}/plates/plate.####.dpx") for shot in ("shot_020", "shot_030")]
    for location in sequences:
        page.ask(
            """mutation($repository: RepositorySelector!, $key: String!) { addDynamicPartition(partitionKey: $key,
                 partitionsDefName: "sequences", repositorySelector: $repository) { __typename } }""",
            repository={"repositoryName": "__repository__", "repositoryLocationName": "exr_pipeline"},
            key=location.partition_key,
        )
    with browser_page() as view:
        view.goto(f"{page.url}/assets/sequence_mp4?view=partitions", wait_until="domcontentloaded")
        rows = view.locator("[data-tooltip*='~~in~']")
        rows.first.wait_for(timeout=300_000)
        expect(rows).to_have_count(len(sequences))
        shown = rows.locator("span").all_inner_texts()
    assert all("…" in each for each in shown), shown
    assert len(set(shown)) == len(sequences), shown


def test_the_catalog_answers_at_the_same_address_to_whoever_has_a_token(page: Page) -> None:
    with pytest.raises(urllib.error.HTTPError, match="401"):
        urllib.request.urlopen(f"{page.url}/v1/assets", timeout=60)
    token = page.run("catalog", "token").stdout.strip()
    (key,) = page.put({"shot/cataloged.0001.exr": render()})
    wait_for(lambda: key in page.statuses("exr_header")["materialized"], 600, "a run")
    request = urllib.request.Request(f"{page.url}/v1/assets?q=cataloged", headers={"Authorization": f"Bearer {token}"})

    def is_cataloged() -> bool:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return bool(json.load(answer)["items"])

    wait_for(is_cataloged, 120, "the file in the catalog")
    with urllib.request.urlopen(f"{page.url}/readyz", timeout=60) as answer:
        assert answer.status == 200
    assert not re.search(r"exr_[\w-]{43}", page.log.read_text()), "a token is in the log"
