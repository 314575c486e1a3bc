"""How fast, how steady and how safe `reports score` is."""
