"""The support bundle: what somebody needs who helps from elsewhere, without the node's secrets."""
