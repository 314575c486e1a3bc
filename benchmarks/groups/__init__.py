"""How well `dataset groups` finds photos of one source."""
