"""What the drawn photos show: rooms, calls, devices, virtual rooms, plain marks."""
