"""kproxy-nat: compile Kubernetes Services into the NAT rules of a node.

The way of the data, module by module, is drawn in ``docs/architecture.md``.
"""

__version__ = "0.1.0"
