"""One file per question: traces to the report that answers it."""
