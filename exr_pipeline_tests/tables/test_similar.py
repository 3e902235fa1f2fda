"""Similar files, on each store: the same ranking as by the vectors themselves."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import numpy as np
import pytest

from exr_pipeline.inspection import EMBEDDING_VERSION, rows, unread_rows
from exr_pipeline.inspection.rows import FileState
from exr_pipeline.tables import BadQueryError
from exr_pipeline.tables.similar import similar_files, stored_embedding
from exr_pipeline_tests.inspection.files import inspected, source
from exr_pipeline_tests.inspection.matrices import metadata_embeddings

if TYPE_CHECKING:
    from exr_pipeline_tests.tables.conftest import StoreUnderTest

NOW = datetime(2026, 5, 1, 8, 0, 0, tzinfo=UTC)
FRAMES = [
    inspected(key=f"show/{shot}/beauty.{number}.exr", compression=compression)
    for shot, compression in (("010", 3), ("020", 3), ("030", 4))
    for number in range(1001, 1041)
]


def test_similar_files_are_ranked_by_the_cosine_of_their_vectors(tables: StoreUnderTest) -> None:
    tables.store.write(rows(FRAMES, inspected_at=NOW), now=NOW)
    tables.store.write(unread_rows([(source("bad.exr"), FileState("rejected", "empty"))], inspected_at=NOW), now=NOW)
    given = FRAMES[20]
    stored = stored_embedding(tables.store, given.source.location)
    assert stored is not None
    assert stored.vector is not None
    assert stored.version == EMBEDDING_VERSION
    url = given.source.location.url
    found = similar_files(tables.store, stored.vector, EMBEDDING_VERSION, without=url, limit=200)

    vectors = metadata_embeddings(FRAMES).astype(np.float64)
    cosines = vectors @ vectors[20] / np.linalg.norm(vectors, axis=1) / np.linalg.norm(vectors[20])
    expected = {inspection.source.location.url: 1 - cosine for inspection, cosine in zip(FRAMES, cosines, strict=True)}
    listed = found.column("uri").to_pylist()
    assert sorted(listed) == sorted(set(expected) - {url})
    assert found.column("distance").to_pylist() == pytest.approx([expected[uri] for uri in listed], abs=1e-6)
    assert {uri.split("/")[-2] for uri in listed[:39]} == {"010"}
    assert {uri.rpartition("/")[2] for uri in listed[:2]} == {"beauty.1020.exr", "beauty.1022.exr"}
    assert found.select(["resolution", "compression"]).to_pylist()[0] == {"resolution": "64x32", "compression": "zip"}

    where = "compression = 'piz' AND frame_number = 1001"
    only = similar_files(tables.store, stored.vector, EMBEDDING_VERSION, without=url, where=where)
    assert only.column("uri").to_pylist() == [FRAMES[80].source.location.url]
    with pytest.raises(BadQueryError):
        similar_files(tables.store, stored.vector, EMBEDDING_VERSION, without=url, where="nosuch")


def test_vectors_of_another_version_and_of_superseded_files_are_left_out(tables: StoreUnderTest) -> None:
    tables.store.write(rows(FRAMES[:2], inspected_at=NOW), now=NOW)
    later = replace(FRAMES[0].source, mtime=NOW, etag="other", seen_at=NOW)
    tables.store.write(unread_rows([(later, FileState("rejected", "empty"))], inspected_at=NOW), now=NOW)
    vector = metadata_embeddings(FRAMES[:1])[0].tolist()
    found = similar_files(tables.store, vector, EMBEDDING_VERSION, without="")
    assert found.column("uri").to_pylist() == [FRAMES[1].source.location.url]
    assert similar_files(tables.store, vector, EMBEDDING_VERSION + 1, without="").num_rows == 0
    rejected = stored_embedding(tables.store, later.location)
    assert rejected is not None
    assert (rejected.vector, rejected.reason) == (None, "empty")
    assert stored_embedding(tables.store, source("nosuch.exr").location) is None
