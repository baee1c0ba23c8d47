"""Who is there: proof of identity, one link a pair, finding and redialling peers, and which users they host."""
