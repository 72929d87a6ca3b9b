"""Differences: of rule sets, chain by chain and rule by rule, and of the Services that they implement."""
