"""How often the gate of a night passes equal, better and worse candidates."""
