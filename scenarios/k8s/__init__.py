"""The node with Kubernetes on it: Ready, workloads, updates that the cluster judges."""
