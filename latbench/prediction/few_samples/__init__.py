"""What predictors that learn from few architectures need: relative weights, merged rows, a shrunken line."""
