"""Reports to text. A renderer returns a string (or a Rich renderable) and prints nothing."""
