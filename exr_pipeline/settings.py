"""Every setting of the project, in one typed class read from the environment (and a `.env` file).

Belongs here: names, types, defaults, descriptions, values derived from them, and where a value comes from. Not here:
clients or connections.
"""

import os
from collections.abc import Mapping
from difflib import get_close_matches
from functools import cached_property
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import AfterValidator, Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, DotEnvSettingsSource, EnvSettingsSource, NoDecode, SettingsConfigDict

from exr_pipeline.formats import KINDS, described_kinds


def _known_kind(value: str) -> str:
    if value not in KINDS:
        raise ValueError(f"{value!r} is not a kind of file: use {', '.join(KINDS)}")
    return value


class Settings(BaseSettings):
    """Settings of one process. Immutable: to change a value, create another instance."""

    model_config = SettingsConfigDict(
        env_prefix="EXR_PIPELINE_", env_file=".env", extra="ignore", frozen=True, populate_by_name=True
    )

    # Object storage
    s3_endpoint: str | None = Field(
        None, validation_alias="S3_ENDPOINT", description="URL of an S3-compatible server. If empty, AWS is used."
    )
    s3_access_key: SecretStr | None = Field(
        None,
        validation_alias="S3_ACCESS_KEY",
        description="Access key. If empty, the standard AWS credential chain is used.",
    )
    s3_secret_key: SecretStr | None = Field(
        None,
        validation_alias="S3_SECRET_KEY",
        description="Secret key. If empty, the standard AWS credential chain is used.",
    )
    s3_session_token: SecretStr | None = Field(
        None,
        validation_alias="S3_SESSION_TOKEN",
        description="Session token, if S3_ACCESS_KEY and S3_SECRET_KEY are temporary.",
    )
    s3_profile: str | None = Field(
        None,
        validation_alias="S3_PROFILE",
        description="AWS profile that is used if no access key is set. If empty, AWS_PROFILE or the default one.",
    )
    s3_region: str = Field(
        "us-east-1", validation_alias="S3_REGION", description="Region that requests are signed for."
    )

    # VAST DataBase
    vast_db_endpoint: str | None = Field(
        None, validation_alias="VAST_DB_ENDPOINT", description="URL of the VAST DataBase. Defaults to S3_ENDPOINT."
    )
    vast_db_access_key: SecretStr | None = Field(
        None, validation_alias="VAST_DB_ACCESS_KEY", description="Access key. Defaults to S3_ACCESS_KEY."
    )
    vast_db_secret_key: SecretStr | None = Field(
        None, validation_alias="VAST_DB_SECRET_KEY", description="Secret key. Defaults to S3_SECRET_KEY."
    )
    vast_db_region: str = Field("us-east-1", validation_alias="VAST_DB_REGION", description="Region of the database.")
    vast_db_bucket: str | None = Field(
        None,
        validation_alias="VAST_DB_BUCKET",
        description="Existing database bucket. If set, VAST is the table store instead of the embedded DuckDB.",
    )
    vast_db_schema: str = Field(
        "exr_metadata", validation_alias="VAST_DB_SCHEMA", description="Schema that holds the tables."
    )

    # Color
    ocio: str | None = Field(
        None, validation_alias="OCIO", description="OCIO config (path or ocio:// URI) that replaces the built-in one."
    )
    ocio_config_path: str | None = Field(
        None, validation_alias="OCIO_CONFIG_PATH", description="Older name for OCIO. Takes precedence over it."
    )
    default_color_space: str = Field(
        "lin_rec709_scene",
        description="Color space, role or interop ID of EXR files that do not state one. The default is linear "
        "Rec.709, as OpenEXR defines it. Use `scene_linear` if you render in ACEScg (see docs/color.md).",
    )

    # What is ingested and where results go
    sources: Annotated[tuple[str, ...], NoDecode] = Field(
        (),
        description="Comma-separated URLs that the sensor watches: s3://bucket/prefix, gs://, az://, file:///folder.",
    )
    local_links: Literal["follow", "inside"] = Field(
        "follow",
        description="Links in local sources: `follow` follows all, `inside` only those that stay in the source.",
    )
    source_kinds: Annotated[tuple[Annotated[str, AfterValidator(_known_kind)], ...], NoDecode] = Field(
        KINDS,
        description=f"Comma-separated kinds of files to ingest: {described_kinds()}.",
    )
    output_root: str | None = Field(
        None,
        description="URL to write media to, at keys relative to their source. `{source}` in it stands for the "
        "source's bucket and prefix. If empty, media are written to `.proxies/` next to the files.",
    )
    compatibility: Literal["", "spaceharbor"] = Field(
        "",
        description="`spaceharbor` gives media the names that SpaceHarbor looks for, and adds a still of the proxy and "
        "the header as JSON. See docs/compatibility.md.",
    )
    state_dir: Path = Field(
        Path(".state"), description="Folder of the embedded database and the demonstration's object store."
    )
    database: Path | None = Field(
        None, description="File of the embedded DuckDB database. Defaults to tables.duckdb in the state folder."
    )

    # The catalog
    catalog_database: SecretStr | None = Field(
        None,
        description="URL of the catalog's PostgreSQL database, postgresql://USER:PASSWORD@HOST/DATABASE. If empty, it "
        "is the file catalog.db in the state folder.",
    )
    admin_token: SecretStr | None = Field(
        None,
        description="Token of the catalog's first administrator. At least 20 characters. If empty, `serve` makes one "
        "and prints it once.",
    )
    service_url: str | None = Field(
        None,
        description="Address under which browsers reach the catalog, such as https://catalog.studio.example. If empty, "
        "browsers can log in on this machine only.",
    )
    oidc_issuer: str | None = Field(
        None,
        description="URL of an OpenID Connect provider, for single sign-on to the catalog. If empty, there is none.",
    )
    oidc_client_id: str | None = Field(None, description="Name of this installation at the provider.")
    oidc_client_secret: SecretStr | None = Field(
        None, description="Secret of this installation at the provider. If empty, it is a public client."
    )
    oidc_scopes: str = Field("openid profile email", description="Scopes that the provider is asked for.")
    oidc_roles: Annotated[tuple[str, ...], NoDecode] = Field(
        (),
        description="Comma-separated rules from the provider's claims to roles, CLAIM:VALUE=ROLE@PROJECT, such as "
        "`groups:vfx=editor@show,groups:leads=admin`. Without @PROJECT, in all. If empty, administrators give roles.",
    )
    oidc_audience: str | None = Field(
        None,
        description="Audience of the provider's access tokens (JWT) that the catalog accepts from services. If empty, "
        "it accepts none.",
    )
    server_name: str = Field(
        "", description="Name of this node of the catalog among others. Defaults to the machine's name and the port."
    )
    server_url: str | None = Field(
        None, description="URL under which others reach this node. It is listed for them and not checked."
    )
    region: str = Field(
        "default", min_length=1, description="Region of this node, and of the location that `serve` makes if none is."
    )
    transfer_parts: int = Field(
        16, ge=1, description="Maximum parts of transfers that a node takes at once. It answers 503 beyond it."
    )
    transfer_hours: float = Field(
        72.0, gt=0, description="Hours without a part after which an unfinished transfer is aborted."
    )

    # Its client
    servers: Annotated[tuple[str, ...], NoDecode] = Field(
        ("http://127.0.0.1:8600",),
        description="Comma-separated URLs of the catalog's nodes, for `exr-pipeline assets`. Where one does not "
        "answer, the next is asked.",
    )
    token: SecretStr | None = Field(None, description="Token that `exr-pipeline assets` shows to the catalog.")

    # The sensor
    sensor_interval_seconds: int = Field(3, ge=1, description="Seconds between checks of the sources.")
    sensor_max_listed: int = Field(
        20_000,
        ge=1,
        description="Maximum objects listed per tick, starting where the last tick ended. As many again are listed in "
        "folders where files have just arrived.",
    )
    sensor_seconds: float = Field(
        15.0, gt=0, description="Maximum seconds that a tick lists. Dagster ends a tick after 60."
    )
    sensor_max_runs: int = Field(
        20, ge=1, description="Maximum number of unfinished ingest runs. The sensor requests none beyond it."
    )
    settle_seconds: float = Field(3.0, ge=0, description="Seconds that a file must be unchanged before it is read.")
    retry_after_seconds: float = Field(
        300.0,
        ge=0,
        description="Seconds before a sensor first retries a retryable file or sequence. Later waits are longer.",
    )

    # Events of stores
    events_seconds: float = Field(
        4.0,
        gt=0,
        le=20,
        description="Seconds that a tick of the sensor of events reads; while hundreds come a second, up to 20. "
        "Dagster starts ticks every 5 seconds.",
    )
    events_max_read: int = Field(
        50_000, ge=1, description="Maximum messages that a tick of the sensor of events reads."
    )
    events_kafka_brokers: str | None = Field(
        None,
        description="Comma-separated host:port of Kafka brokers, such as a VAST Event Broker, whose events are read.",
    )
    events_kafka_topics: Annotated[tuple[str, ...], NoDecode] = Field(
        (), description="Comma-separated topics with events of object storage (see docs/events-in.md)."
    )
    events_kafka_group: str = Field(
        "exr-pipeline",
        min_length=1,
        description="Consumer group that offsets are committed for. Each deployment needs its own.",
    )
    kafka_security: Literal["plaintext", "ssl", "sasl_plaintext", "sasl_ssl"] = Field(
        "plaintext", description="How to connect to Kafka brokers, to read events from and to publish them to."
    )
    kafka_ca: Path | None = Field(
        None, description="PEM file of certificate authorities for Kafka brokers. Defaults to the system's."
    )
    kafka_sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = Field(
        "PLAIN", description="SASL mechanism, if the security is sasl_plaintext or sasl_ssl."
    )
    kafka_username: str | None = Field(None, description="SASL user name.")
    kafka_password: SecretStr | None = Field(None, description="SASL password.")

    events_sqs_queues: Annotated[tuple[str, ...], NoDecode] = Field(
        (), description="Comma-separated URLs of Amazon SQS queues with events of object storage."
    )

    events_catalog: Annotated[dict[str, str], NoDecode] = Field(
        {},
        description="Paths of a VAST cluster whose changes are read from its VAST Catalog, and their URLs, such as "
        "`/renders=s3://renders/`.",
    )

    show_folders: int = Field(
        0,
        ge=0,
        description="How many folders below a source name the show that runs are tagged with. 0 means the source.",
    )
    priorities: Annotated[dict[str, int], NoDecode] = Field(
        {}, description="Priorities of shows in Dagster's run queue, such as `show_a=10,show_b=-5`. Others have 0."
    )

    # Runs
    chunk_size: int = Field(500, ge=1, le=2000, description="Files per run.")
    write_seconds: float = Field(
        5.0, ge=0, description="Seconds after which a run writes the rows of the files that it has finished."
    )
    workers: int = Field(
        default_factory=lambda: len(os.sched_getaffinity(0)), ge=1, description="Picture worker processes per run."
    )
    worker_memory_mb: int = Field(4096, ge=1024, description="Maximum address space of a picture worker, in MiB.")
    worker_timeout_seconds: float = Field(
        120.0, gt=0, description="Maximum processor seconds that a picture worker spends on one file."
    )
    movie_timeout_factor: float = Field(
        20.0, ge=0, description="Additional seconds that a worker may spend on a movie per second of its length."
    )
    max_image_mb: int = Field(2048, ge=1, description="Largest uncompressed image that is decoded, in MiB.")
    fetches: int = Field(
        16,
        ge=1,
        description="Maximum whole objects per run that are fetched ahead of picture workers, and parallel transfers.",
    )
    request_retries: int = Field(
        4,
        ge=0,
        description="How many times a failed request to object storage or VAST DataBase is repeated.",
    )
    header_fetches: int = Field(
        1000,
        ge=1,
        le=10_000,
        description="Headers that a run without pictures fetches in parallel, 64 KiB each.",
    )

    console_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        "INFO", description="Lowest level of messages that runs print to the console. All events are stored regardless."
    )

    # Seen from outside
    log_format: Literal["text", "json"] = Field(
        "text", description="Form of log lines on standard error: `json` writes one object per line."
    )
    metrics: bool = Field(
        default=False,
        description="Whether the processes of this machine add up what they do in the state folder, for "
        "`exr-pipeline metrics`. Needs the extra `telemetry`.",
    )
    metrics_address: str = Field(
        "",
        description="host:port where the process that runs the sensors answers Prometheus, such as 127.0.0.1:9464. "
        "Implies EXR_PIPELINE_METRICS. There is no password: other machines can read it unless host is a loopback "
        "address.",
    )

    retention_days: int = Field(
        30, ge=1, description="Days to keep Dagster's runs and replaced events (see docs/operations.md)."
    )

    event_rejects_days: int = Field(
        30, ge=1, description="Days to keep rejected events in the table event_rejects (see docs/events.md)."
    )

    # The page
    page_hosts: Annotated[tuple[str, ...], NoDecode] = Field(
        (),
        description="Comma-separated host names under which browsers reach Dagster's page, besides this machine's own "
        "(see docs/operations.md).",
    )

    # Deleted sources
    deleted_media_days: int | None = Field(
        None,
        ge=0,
        description="Days after which the media of a file that is gone from its source are removed. 0 means at once, "
        "empty means never (see docs/operations.md).",
    )
    reconcile_dry_run: bool = Field(
        default=True, description="Whether the nightly `reconcile`, which is off by default, only reports."
    )

    archive_after_days: float | None = Field(
        None,
        ge=0,
        description="Days after which the hourly schedule `archive` retires the partitions of finished files.",
    )
    archive_most_live: int | None = Field(
        None,
        ge=0,
        description="Number of files that keep partitions: the hourly schedule `archive` retires finished ones beyond "
        "it, those touched longest ago first.",
    )

    # Pictures
    thumbnail_size: int = Field(256, ge=16, le=4096, description="Longest side of a thumbnail, in pixels.")
    proxy_width: int = Field(1920, ge=16, le=8192, description="Largest width of a proxy, in pixels.")
    proxy_height: int = Field(1080, ge=16, le=8192, description="Largest height of a proxy, in pixels.")
    proxy_seconds: float = Field(1.0, gt=0, le=3600, description="Length of the proxy of a single frame, in seconds.")
    still_view: Literal["view", "un-tone-mapped"] = Field(
        "view",
        description="View of thumbnails: `view` is the display's default view, `un-tone-mapped` the colorimetric one.",
    )
    proxy_view: Literal["view", "un-tone-mapped"] = Field("view", description="View of proxies, as for thumbnails.")
    picture_rules: Path | None = Field(
        None,
        description="YAML file that selects color space, display, view, look, LUT and layer by a prefix of the file's "
        "URL (see docs/color.md).",
    )

    # Functions
    function_products: Annotated[tuple[str, ...], NoDecode] = Field(
        (),
        description="Comma-separated products that a serverless function makes: header, checksum, thumbnail, proxy. "
        "If empty, all that the installed extras can make.",
    )
    raise_retryable: bool = Field(
        default=True,
        description="Whether a serverless function raises an exception for what may succeed later, so that its "
        "platform sends the event again. If not, the answer says so.",
    )

    # Events for others
    publish_brokers: str = Field(
        "",
        description="Comma-separated host:port of a Kafka broker, such as VAST's, that events are published to. If "
        "empty, none are (see docs/events.md).",
    )
    publish_topic: str = Field("exr-pipeline.events", description="Topic of all events but proxy.generated.")
    publish_proxy_topic: str = Field("spaceharbor.proxy", description="Topic of the event proxy.generated.")
    publish_completed_topic: str = Field(
        "spaceharbor.dataengine.completed", description="Topic of the event vast.dataengine.pipeline.completed."
    )
    publish_types: Annotated[tuple[str, ...], NoDecode] = Field(
        (),
        description="Comma-separated types of events to publish: header.inspected, proxy.generated, sequence.ready, "
        "file.rejected, file.deleted, vast.dataengine.pipeline.completed. If empty, all.",
    )
    publish_source: str = Field(
        "/exr-pipeline",
        min_length=1,
        description="Attribute `source` of events: a URI reference that tells installations apart.",
    )
    publish_webhooks: Annotated[tuple[str, ...], NoDecode] = Field(
        (),
        description="Comma-separated https URLs that each event is sent to in a POST. http is for this machine only.",
    )
    publish_webhook_secret: SecretStr | None = Field(
        None, description="Secret that webhooks are signed with: whsec_ and Base64 of 24 to 64 bytes."
    )
    publish_alarm_seconds: float = Field(
        600.0, gt=0, description="Age of the oldest unpublished event from which the sensor `events_out` fails."
    )

    # Movies of sequences
    movie_preset: str = Field("review", description="Default preset of sequence movies (see docs/sequence-movies.md).")
    movie_presets: Path | None = Field(
        None,
        description="YAML file of presets. They are added to the built-in ones, and replace those of the same name.",
    )
    movie_segment_frames: int = Field(
        48,
        ge=1,
        description="Maximum frames per movie segment. One worker encodes a segment. A restart loses unfinished ones.",
    )
    sequence_quiet_seconds: float = Field(
        30.0, ge=0, description="Seconds that a sequence's folder must be unchanged before its movie is made."
    )
    sequence_sensor_seconds: int = Field(10, ge=1, description="Seconds between checks for settled sequences.")
    sequence_missing: Literal["error", "hold", "black"] = Field(
        "hold",
        description="How missing frames are treated: `hold` repeats the frame before, `black` shows black, `error` "
        "makes no movie.",
    )
    sequence_burn_in: bool = Field(
        default=False, description="Whether sequence movies show name, frame number and time code."
    )
    udim_hint: str = Field(
        r"(?i)(?:^|[/._-])(?:udims?|tex|textures?)(?:[/._-]|$)",
        description="Regular expression. In keys that match, the numbers 1001 to 1999 are texture tiles, not frames. "
        "If empty, no keys match.",
    )

    @field_validator(
        *("sources", "source_kinds", "page_hosts", "function_products", "publish_types", "publish_webhooks"),
        *("events_kafka_topics", "events_sqs_queues", "oidc_roles", "servers"),
        mode="before",
    )
    @classmethod
    def _split_sources(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(part.strip() for part in value.split(",") if part.strip())
        return value

    @field_validator("priorities", mode="before")
    @classmethod
    def _split_priorities(cls, value: object) -> object:
        if isinstance(value, str):
            pairs = (part.rpartition("=") for part in value.split(",") if part.strip())
            return {show.strip(): number.strip() for show, _, number in pairs}
        return value

    @field_validator("events_catalog", mode="before")
    @classmethod
    def _split_paths(cls, value: object) -> object:
        if isinstance(value, str):
            pairs = (part.partition("=") for part in value.split(",") if part.strip())
            return {path.strip(): url.strip() for path, _, url in pairs}
        return value

    @field_validator(
        "s3_endpoint",
        "vast_db_endpoint",
        "vast_db_bucket",
        "ocio",
        "ocio_config_path",
        "output_root",
        "database",
        "picture_rules",
        "movie_presets",
        "archive_after_days",
        "archive_most_live",
        "deleted_media_days",
        "s3_access_key",
        "s3_secret_key",
        "s3_session_token",
        "s3_profile",
        "vast_db_access_key",
        "vast_db_secret_key",
        "publish_webhook_secret",
        "catalog_database",
        "admin_token",
        "service_url",
        "oidc_issuer",
        "oidc_client_id",
        "oidc_client_secret",
        "oidc_audience",
        "server_url",
        "token",
        "events_kafka_brokers",
        "kafka_ca",
        "kafka_username",
        "kafka_password",
        mode="before",
    )
    @classmethod
    def _empty_is_unset(cls, value: object) -> object:
        return None if value == "" else value

    @classmethod
    def variable(cls, field: str) -> str:
        """The environment variable that a setting is read from."""
        return str(cls.model_fields[field].validation_alias or f"EXR_PIPELINE_{field.upper()}")

    @property
    def counts_metrics(self) -> bool:
        """Whether processes add up what they do in the state folder."""
        return self.metrics or bool(self.metrics_address)

    @cached_property
    def database_path(self) -> Path:
        """The embedded database's file."""
        return self.database or self.state_dir / "tables.duckdb"


Origin = Literal["environment", ".env", "default"]

# No other program has variables of these names.
_OURS: Final = ("EXR_PIPELINE_", "VAST_DB_")
_OF_THE_TESTS: Final = "EXR_PIPELINE_TEST_"
# Dagster reads them, by the `dagster.yaml` of the configurations in `deploy`.
_OF_DEPLOYMENTS: Final = frozenset(
    {
        "EXR_PIPELINE_LOG_BUCKET",
        "EXR_PIPELINE_POSTGRES_URL",
        "EXR_PIPELINE_REDIS_PASSWORD_FILE",
        "EXR_PIPELINE_REDIS_URL",
    }
)


def origins() -> dict[str, Origin]:
    """Where the value of each setting comes from, by field."""
    variables = _variables()
    found: dict[str, Origin] = {}
    for field in Settings.model_fields:
        names = _names(field)
        found[field] = next((origin for origin, values in variables.items() if names & values.keys()), "default")
    return found


def unknown_variables() -> dict[str, str | None]:
    """Variables in the environment and in `.env` that are named like settings but are not, such as misspelled ones.

    Each has the name of the setting that it resembles, or None.
    """
    known = {name for field in Settings.model_fields for name in _names(field)} | _OF_DEPLOYMENTS
    ours = {name for values in _variables().values() for name in values if name.startswith(_OURS)}
    unknown = sorted(name for name in ours - known if not name.startswith(_OF_THE_TESTS))
    # The prefix that all names share says nothing about which one is meant.
    proper = {_without_prefix(Settings.variable(field)): Settings.variable(field) for field in Settings.model_fields}
    nearest = {name: get_close_matches(_without_prefix(name), proper, n=1) for name in unknown}
    return {name: proper[found[0]] if found else None for name, found in nearest.items()}


def _without_prefix(name: str) -> str:
    return name.removeprefix("EXR_PIPELINE_").removeprefix("VAST_DB_")


def describe_unknown_variables() -> list[str]:
    """A sentence about each of `unknown_variables`."""
    return [
        f"{name} is not a setting" + (f"; did you mean {nearest}?" if nearest else "")
        for name, nearest in unknown_variables().items()
    ]


def _variables() -> dict[Origin, Mapping[str, str | None]]:
    """The variables that are set, by origin, strongest first. Names are in capitals: their case does not matter."""
    sources: dict[Origin, EnvSettingsSource] = {
        "environment": EnvSettingsSource(Settings),
        ".env": DotEnvSettingsSource(Settings),
    }
    return {origin: {n.upper(): v for n, v in source.env_vars.items()} for origin, source in sources.items()}


def _names(field: str) -> set[str]:
    return {Settings.variable(field), f"EXR_PIPELINE_{field.upper()}"}


def first_fault(error: ValidationError) -> tuple[str, str]:
    """The variable of the first wrong setting, and what is wrong with it, without its value: that may be a secret."""
    first = error.errors(include_url=False, include_input=False)[0]
    # The location is the variable's name where the variable is not named after the field.
    name = str(first["loc"][0])
    return Settings.variable(name) if name in Settings.model_fields else name, str(first["msg"])
