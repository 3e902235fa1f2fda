"""The assets: what each is, and how it is made."""
