"""The operation table: what each operation costs, what it sees, and how it is explained."""
