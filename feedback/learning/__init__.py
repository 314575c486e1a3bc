"""The nightly run: pull agreed labels, make a snapshot, train, judge, publish."""
