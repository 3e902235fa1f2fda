"""What needs work: listing sources, remembering where a listing is, telling settled files and sequences."""
