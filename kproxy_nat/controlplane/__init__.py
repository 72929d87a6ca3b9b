"""What the cluster's control plane would add to the manifests: pure functions over the model."""
