"""An update from attempt to commit or rollback: gates, activation, trial, reconciliation."""
