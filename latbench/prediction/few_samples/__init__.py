"""What predictors need that learn from few architectures: relative weights, merged rows, a shrunken line."""
