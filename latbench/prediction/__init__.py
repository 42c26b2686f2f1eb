"""From a profile to a trained predictor: `fit`, `trained` is what it returns, `file` is how it is kept."""
