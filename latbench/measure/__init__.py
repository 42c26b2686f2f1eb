"""The measuring protocol: a session visits compiled models in random order round by round, and estimates."""
