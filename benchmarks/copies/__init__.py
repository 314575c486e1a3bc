"""How many copies of the frozen photos are held back."""
