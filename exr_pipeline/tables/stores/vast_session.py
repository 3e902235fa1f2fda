"""One process's connection to VAST DataBase: session, transactions, and errors by what the caller should do.

Belongs here: what is true of any use of the `vastdb` SDK. Not here: tables and rows (`vast`).
"""

from __future__ import annotations

import os
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Self
from urllib.parse import urlsplit

from exr_pipeline.errors import ExrPipelineError, MisconfiguredError, RetryableError, StateUnknownError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pydantic import SecretStr

    from exr_pipeline.settings import Settings

CONNECT_TIMEOUT_SECONDS: Final = 10.0
READ_TIMEOUT_SECONDS: Final = 60.0
# How long the SDK repeats what it may repeat (503 SlowDown, reads whose connection broke).
SDK_SECONDS: Final = 20.0
SDK_LONGEST_PAUSE_SECONDS: Final = 2.0

_TOO_LARGE: Final = "413"


class ConflictError(RetryableError):
    """Another transaction changed the same rows: nothing was changed, begin again."""


class RefusedKeyError(MisconfiguredError):
    """The server refused the access key: nothing was changed."""


@dataclass(frozen=True)
class VastConnection:
    """Where the database is. Sessions are opened when first used, one per process, and kept."""

    endpoint: str
    access_key: SecretStr
    secret_key: SecretStr
    bucket: str
    schema: str
    retries: int
    read_timeout_seconds: float = READ_TIMEOUT_SECONDS
    sdk_seconds: float = SDK_SECONDS
    _sessions: dict[int, Any] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def from_settings(cls, settings: Settings) -> Self:
        """The connection that the settings name, endpoint and keys falling back to those of object storage.

        Raises `MisconfiguredError` for what is missing.
        """
        endpoint = settings.vast_db_endpoint or settings.s3_endpoint
        access_key = settings.vast_db_access_key or settings.s3_access_key
        secret_key = settings.vast_db_secret_key or settings.s3_secret_key
        bucket = settings.vast_db_bucket
        missing = {"ENDPOINT": endpoint, "ACCESS_KEY": access_key, "SECRET_KEY": secret_key}
        for name, value in missing.items():
            if not value:
                problem = f"neither it nor S3_{name} is set, but VAST_DB_BUCKET is"
                raise MisconfiguredError(f"VAST_DB_{name}", problem, f"set VAST_DB_{name}")
        if not bucket:
            raise MisconfiguredError("VAST_DB_BUCKET", "not set", "set it to an existing database bucket")
        assert endpoint is not None
        if not _is_http_url(endpoint):
            # Not quoted, for there may be a password in it.
            raise MisconfiguredError(
                "VAST_DB_ENDPOINT",
                "it (or S3_ENDPOINT, its fallback) is not a plain http:// or https:// URL",
                "write it like https://vast.example.com, without user and password",
            )
        assert access_key is not None
        assert secret_key is not None
        return cls(endpoint, access_key, secret_key, bucket, settings.vast_db_schema, settings.request_retries)

    @contextmanager
    def transaction(self) -> Iterator[Any]:
        """A transaction, committed at the end or rolled back by any exception.

        Raises the errors of this project: `ConflictError`, `RetryableError`, `MisconfiguredError`; from the commit
        also `StateUnknownError`.
        """
        with self._translated():
            transaction = self._session().transaction().__enter__()
        transaction_id = transaction.txid
        try:
            with self._translated():
                yield transaction
        except BaseException:
            self._roll_back(transaction_id)
            raise
        try:
            with self._translated():
                transaction.__exit__(None, None, None)
        except (ConflictError, RefusedKeyError):
            # Whoever answers so has committed nothing.
            self._roll_back(transaction_id)
            raise
        except ExrPipelineError as error:
            # Settles what can be settled: no commit can follow, and rows are free for others.
            self._roll_back(transaction_id)
            raise StateUnknownError(f"the answer to a commit was lost: {error}") from error

    def _roll_back(self, transaction_id: int) -> None:
        # What was going wrong matters more; a transaction that nobody ends is ended by the server.
        with suppress(ExrPipelineError), self._translated():
            self._session().api.rollback_transaction(transaction_id)

    def _session(self) -> Any:
        import vastdb
        from vastdb.config import BackoffConfig, SessionConfig

        session = self._sessions.get(os.getpid())
        if session is None:
            session = vastdb.connect(
                endpoint=self.endpoint,
                access=self.access_key.get_secret_value(),
                secret=self.secret_key.get_secret_value(),
                timeout=(CONNECT_TIMEOUT_SECONDS, self.read_timeout_seconds),
                backoff_config=BackoffConfig(
                    max_tries=self.retries + 1, max_time=self.sdk_seconds, max_value=SDK_LONGEST_PAUSE_SECONDS
                ),
                config=SessionConfig(data_endpoints=[self.endpoint]),
            )
            session = self._sessions.setdefault(os.getpid(), session)
        return session

    @contextmanager
    def _translated(self) -> Iterator[None]:
        import requests
        from vastdb import errors

        try:
            yield
        except errors.Conflict as error:
            raise ConflictError(f"VAST DataBase: another writer committed first ({error.message})") from error
        except errors.MissingBucket as error:
            raise self._no_bucket() from error
        except (errors.HttpError, errors.ConnectionError, errors.MissingTransaction) as error:
            raise self._by_answer(error) from error
        except requests.exceptions.Timeout as error:
            raise self._no_answer("did not answer in time") from error
        except (
            requests.exceptions.InvalidURL,
            requests.exceptions.InvalidSchema,
            requests.exceptions.MissingSchema,
        ) as error:
            raise self._wrong_endpoint("not a valid URL") from error
        except requests.exceptions.RequestException as error:
            raise self._no_answer(f"the request failed ({type(error).__name__})") from error
        except NotImplementedError as error:
            raise self._wrong_endpoint("no VAST DataBase supported by this client answers there") from error
        except ValueError as error:
            # The SDK knows only some statuses and fails on the others, such as 429 and 502, in this way.
            if "is not a valid HttpStatus" not in str(error):
                raise
            raise self._by_status(str(error).split()[0]) from error

    def _by_answer(self, error: Exception) -> ExrPipelineError:
        import requests
        from vastdb import errors

        if isinstance(error, errors.ConnectionError):
            if isinstance(error.cause, requests.exceptions.SSLError):
                return self._wrong_endpoint("the certificate is not trusted")
            return self._no_answer("cannot be reached or closed the connection")
        if isinstance(error, errors.Forbidden):
            return RefusedKeyError(
                "VAST_DB_ACCESS_KEY",
                f"VAST DataBase at {self.endpoint} refused the access key ({error.code})",
                "check VAST_DB_ACCESS_KEY and VAST_DB_SECRET_KEY, and the permissions of the key",
            )
        if isinstance(error, errors.NotFound) and error.code == "NoSuchBucket":
            return self._no_bucket()
        if isinstance(error, (errors.BadRequest, errors.MethodNotAllowed, errors.NotImplemented)):
            return MisconfiguredError(
                "VAST_DB_ENDPOINT",
                f"VAST DataBase at {self.endpoint} refused a request ({error.code}: {error.message})",
                "check that its version is supported and that the tables match this version",
            )
        answer = (
            f"answered {error.status} {error.code}" if isinstance(error, errors.HttpError) else "lost a transaction"
        )
        return RetryableError(f"VAST DataBase at {self.endpoint} {answer}")

    def _by_status(self, status: str) -> ExrPipelineError:
        if status == _TOO_LARGE:
            return MisconfiguredError(
                "VAST_DB_ENDPOINT",
                f"{self.endpoint} answered {status}: a request was too large for it",
                "if there is a proxy before VAST DataBase, let it pass requests of 5 MiB",
            )
        return RetryableError(f"VAST DataBase at {self.endpoint} answered {status}")

    def _no_answer(self, problem: str) -> RetryableError:
        fix = "check that it runs and can be reached, or correct VAST_DB_ENDPOINT (S3_ENDPOINT if that is not set)"
        return RetryableError(f"VAST DataBase at {self.endpoint} {problem}. Fix: {fix}")

    def _no_bucket(self) -> MisconfiguredError:
        return MisconfiguredError(
            "VAST_DB_BUCKET", f"database bucket {self.bucket!r} does not exist", "create it in VAST, or use another"
        )

    def _wrong_endpoint(self, problem: str) -> MisconfiguredError:
        return MisconfiguredError(
            "VAST_DB_ENDPOINT", f"{self.endpoint!r}: {problem}", "set it to the URL of a VAST DataBase endpoint"
        )


def _is_http_url(text: str) -> bool:
    try:
        parts = urlsplit(text)
        return parts.scheme in {"http", "https"} and bool(parts.hostname) and "@" not in text and parts.port != 0
    except ValueError:
        return False
