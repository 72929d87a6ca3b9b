"""Rules applied to network namespaces: what must be there afterwards, whatever happens meanwhile."""
