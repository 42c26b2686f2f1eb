"""What the graphs of a space say about its encodings: what is dead, what is shared, what runs side by side."""
