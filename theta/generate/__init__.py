"""Replies from a model: the parameters, the decoding loop, the conversation window and `ThetaModel`."""
