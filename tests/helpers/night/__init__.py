"""What a night needs: a task that is learnt in seconds, and a machine that publishes archives."""
