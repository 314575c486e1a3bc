"""The code that ships inside an archive. It imports no other package of the project, so an archive runs anywhere.

bytes -> `request` -> `image` -> `engine` -> `service` -> answer. `spec` reads the recipe, `errors` lists every
reason for refusing a request, `goldens` checks the model's answers at start-up.
"""
