"""From an announced version to a served one: keys, signatures, downloads, and the call of `deploy rollout`."""
