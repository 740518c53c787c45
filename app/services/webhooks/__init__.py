"""Standing subscriptions of owners to what happens to their tasks; ``app.services.callbacks`` sends what they hear."""
