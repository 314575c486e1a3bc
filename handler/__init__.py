"""Everything that ships inside the archive, and nothing else.

bytes -> `request` -> `image` -> `engine` -> `service` -> answer; `spec` holds
every number, `errors` every refusal, `goldens` the answers that must come back.
Imports nothing of the project but itself, so that the archive runs anywhere.
"""
