"""Task policies: each decides one thing about a delivery; `compose` stacks them."""
