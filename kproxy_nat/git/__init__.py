"""Revisions of a git repository, read through git itself."""
