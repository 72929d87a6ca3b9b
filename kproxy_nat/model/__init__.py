"""The Kubernetes objects that Service networking is made of: typed as the API writes them, and validated.

Nothing here knows of netfilter, files or command lines.
"""
