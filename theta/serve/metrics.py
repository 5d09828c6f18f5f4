"""What a running server counts, in the format of Prometheus."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)
_ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)


class Metrics:
    """Counters of one server."""

    def __init__(self) -> None:
        own = self._registry = CollectorRegistry()
        self.requests = Counter("theta_requests", "Requests by route and status.", ["route", "status"], registry=own)
        self.prompt_tokens = Counter("theta_prompt_tokens", "Tokens of prompts that were answered.", registry=own)
        self.reply_tokens = Counter("theta_reply_tokens", "Tokens that were written.", registry=own)
        self.running = Gauge("theta_replies_running", "Replies that are being written.", registry=own)
        self.waiting = Gauge("theta_replies_waiting", "Replies that wait for a place in the batch.", registry=own)
        self.first_token = Histogram(
            "theta_first_token_seconds", "From a request to its first token.", registry=own, buckets=_SECONDS
        )
        self.reply = Histogram(
            "theta_reply_seconds", "From a request to its last token.", registry=own, buckets=_SECONDS
        )
        self.batch = Histogram("theta_batch_rows", "Replies that advance in one step.", registry=own, buckets=_ROWS)

    def text(self) -> bytes:
        """Return all counts as Prometheus reads them."""
        return generate_latest(self._registry)
