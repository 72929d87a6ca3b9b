"""One node's view of every Service: which endpoints each port uses, and under which policies.

Computed once for each IP family, it feeds every layout; no decision about policies is taken after it.
"""
