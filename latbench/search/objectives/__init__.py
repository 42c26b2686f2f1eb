"""What a search is asked for: a trained predictor with a target, as a differentiable loss, a reward or a constraint."""
