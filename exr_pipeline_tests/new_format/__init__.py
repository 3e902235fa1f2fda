"""A kind of file that the project does not have (farbfeld), as CONTRIBUTING tells to add one; see `test_formats`."""
