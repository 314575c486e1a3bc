"""Copies of answered photos for the review (docs/feedback.md): chosen, and written in the background."""
