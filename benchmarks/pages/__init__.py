"""How fast the feedback pages are with many photos."""
