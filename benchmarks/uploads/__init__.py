"""Damaged and hostile uploads to the feedback pages."""
