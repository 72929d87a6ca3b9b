"""Addresses, networks and families: parsed once, at the edge, into one canonical form."""
