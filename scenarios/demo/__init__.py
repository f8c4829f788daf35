"""The main job, for people to watch: ``./noxw -s demo``, without Kubernetes, then with it.

Every step is the one that the scenarios use; what is said of it is what the node answered.
"""
