"""Netfilter rules as values: matches, actions, rules, chains, tables, and transactions upon them.

Nothing here knows of Kubernetes. Values say what a rule means; how it is written is the business of
``kproxy_nat.formats``.
"""
