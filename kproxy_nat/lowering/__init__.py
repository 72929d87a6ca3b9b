"""From a node's view to rules: the only place that knows both Kubernetes and netfilter.

One module for each layout. A layout decides how rules are arranged, never which endpoint serves what.
"""
