"""The services that agents may call, as `CHATKIT_BACKENDS` declares them."""
