"""The process of a quarantine with the model of `tests.model_worker`."""

from tests import model_worker
from workers.quarantined import main

__all__ = ["model_worker"]

if __name__ == "__main__":
    main()
