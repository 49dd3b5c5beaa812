"""Names of models: runs, weights, official files, repositories of the Hub, published models. Imports no torch."""
