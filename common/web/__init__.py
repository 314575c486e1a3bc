"""What the project's web pages share: the look, script modules, and the headers of their answers."""
