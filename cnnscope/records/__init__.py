"""The frozen records: the trace, and the reports made from it. Plain data without torch."""
