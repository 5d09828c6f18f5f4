"""An OpenAI-compatible server and a page to talk to: many conversations answered side by side by one model."""
