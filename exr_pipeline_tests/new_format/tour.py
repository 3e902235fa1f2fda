"""Files of the new kind from a folder to rows, thumbnails and a movie: `python -m exr_pipeline_tests.new_format.tour`.

Belongs here: what `test_formats` runs with a copy of the package. Not here: what must come of it.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from exr_pipeline.orchestration.instance.run_now import ingest_source, make_sequences
from exr_pipeline.settings import Settings
from exr_pipeline.storage.locations import Location
from exr_pipeline.tables import open_table_store
from exr_pipeline.tables.specs import TABLES
from exr_pipeline_tests.docs.generated import cli_lines, settings_lines


def main() -> None:
    """Ingest the folder `renders`, make its sequences, and print what became of it and what the documents say."""
    settings = Settings()
    folder = Location("file", "", f"{Path('renders').resolve()}/".lstrip("/"))
    ingest_source(folder, settings)
    states = make_sequences(folder, settings)
    tables = open_table_store(settings)
    columns = ("file_path", "state", "format", "reason")
    answer = {
        "files": tables.read("files", columns=columns).to_pylist(),
        "sequences": tables.read("sequence_outputs", columns=("sequence_path", "state", "frame_count")).to_pylist(),
        "view": tables.sql("SELECT DISTINCT sequence_path FROM sequences").to_pylist(),
        "states": states,
        "documents": [*settings_lines(), *cli_lines(), *(column.meaning for column in TABLES["files"].columns)],
    }
    json.dump(answer, sys.stdout)


if __name__ == "__main__":
    main()
