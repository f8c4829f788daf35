"""The Kubernetes of this node as the agent sees it: payload contract, API, pods, containerd."""
