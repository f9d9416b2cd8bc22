"""Trains the small LLaVA of the demo from nothing, on pictures of vsp's own worlds.

    python -m vsp.demo_training data/models/small-llava

No other part of vsp imports this package. The stages of the training are described in
`curriculum.py`.
"""
