"""The vectors of many files as matrices, for tests that compare them.

Belongs here: the conversion. Not here: what holds of vectors (`test_embedding`).
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from exr_pipeline.inspection import Inspection, vectors


def metadata_embeddings(inspections: Sequence[Inspection]) -> NDArray[np.float32]:
    """One row per file, shape (files, 384)."""
    return np.array([vectors(inspection).metadata_embedding for inspection in inspections], np.float32)


def channel_fingerprints(inspections: Sequence[Inspection]) -> NDArray[np.float32]:
    """One row per file, shape (files, 128)."""
    return np.array([vectors(inspection).channel_fingerprint for inspection in inspections], np.float32)
