"""Pages of documentation, and the files that they name."""

import re

PAGES = ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "cnnscope/README.md")
NAMED = re.compile(r"(?<![\w/.])(?<!uses: )((?:tests|examples|cnnscope|\.ci)/[\w./-]*\w)")
