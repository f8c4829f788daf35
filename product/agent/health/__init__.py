"""The health checks that judge a boot, who runs them, and the report that they leave."""
