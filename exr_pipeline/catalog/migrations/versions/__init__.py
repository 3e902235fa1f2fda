"""One revision per file, named by its number; a revision that has been released never changes."""
