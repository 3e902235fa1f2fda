"""Tests of the sample show."""
