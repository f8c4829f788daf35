"""What an operator is shown: logs, evidence of failed boots, support bundles, access."""
