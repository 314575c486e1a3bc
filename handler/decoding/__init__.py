"""Decoding one image file: its format, its orientation, its colours, and why it is refused."""
