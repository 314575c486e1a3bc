"""Statistics: shares corrected for the classifier's errors, change points, the reviewed sample. Pure functions."""
