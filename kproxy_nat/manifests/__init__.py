"""Manifests: from files and streams to the objects of the model, each with the place where it stands."""
