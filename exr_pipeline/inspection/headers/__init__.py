"""From the first bytes of a file to its inspection, one module per format."""
