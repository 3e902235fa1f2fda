"""What is known about a file from its header: facts, identifiers, vectors, and their forms as JSON and as rows."""

from exr_pipeline.inspection.color_space import StatedColorSpace, stated_color_space, stated_dpx_color_space
from exr_pipeline.inspection.embedding import EMBEDDING_VERSION, Vectors, vectors
from exr_pipeline.inspection.identity import asset_id, file_id, frame_number, split_frame, split_frame_text
from exr_pipeline.inspection.inspect import inspect_bytes
from exr_pipeline.inspection.json import attributes_json, inspection_json, json_text, rejection_json
from exr_pipeline.inspection.model import Inspection, PartFacts, SourceFile, UnseenFile
from exr_pipeline.inspection.rows import FileState, rows, unread_rows

__all__ = [
    "EMBEDDING_VERSION",
    "FileState",
    "Inspection",
    "PartFacts",
    "SourceFile",
    "StatedColorSpace",
    "UnseenFile",
    "Vectors",
    "asset_id",
    "attributes_json",
    "file_id",
    "frame_number",
    "inspect_bytes",
    "inspection_json",
    "json_text",
    "rejection_json",
    "rows",
    "split_frame",
    "split_frame_text",
    "stated_color_space",
    "stated_dpx_color_space",
    "unread_rows",
    "vectors",
]
