"""What a person sets: TorchServe's properties, recipes, and the schema that checks a recipe."""
