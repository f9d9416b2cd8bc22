"""What a layer's probe is worth: splits, fits, scores and statistics."""
