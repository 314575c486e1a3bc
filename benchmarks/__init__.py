"""The measured claims of the README, each from one command."""
