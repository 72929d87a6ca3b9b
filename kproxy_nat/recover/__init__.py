"""Services read back out of rules: the inverse of ``lowering``, for rule sets of ours and of kube-proxy."""
