"""The sensors: which runs files and sequences ask for."""
