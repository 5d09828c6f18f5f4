"""How good the model is: likelihood of the test split, replies to its questions, plots."""
