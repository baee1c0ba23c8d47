"""What is kept and how it spreads: entries in and out, comparing, fetching, serving, order and receipts."""
