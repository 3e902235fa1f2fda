"""The catalog: what people and programs may ask and do about assets. It knows no web framework and no orchestrator."""
