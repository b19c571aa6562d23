"""The usual way, for comparison: a Celery task runs the agent, and its deltas go over Redis pub/sub.

Written as it is commonly done and configured in its favour: `acks_late`, `reject_on_worker_lost`, `autoretry_for` with
backoff, a short visibility timeout, a rate limit per worker, the finished answer kept for whoever comes late.
"""
