"""From the bytes of a file to pixels, one module per kind of file."""
