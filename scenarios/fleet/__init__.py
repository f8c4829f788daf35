"""Many nodes at once, without a machine: how a release comes to all of them."""
