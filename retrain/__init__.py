"""The whole walk from a folder of photos to a packed version, in one command that runs those of the other packages."""
