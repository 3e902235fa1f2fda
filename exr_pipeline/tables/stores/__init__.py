"""The stores: one module per database."""
