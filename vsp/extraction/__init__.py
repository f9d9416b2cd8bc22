"""From a dataset to the array of states: plan, preprocess, extract, verify."""
