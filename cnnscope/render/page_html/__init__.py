"""The page of `cnnscope report`: one HTML file with its data, its script and its style inside.

Script and style are built from `page/` of the repository and committed here; the package needs no
Node.
"""

from cnnscope.render.page_html.block import PAGE_SCHEMA as PAGE_SCHEMA
from cnnscope.render.page_html.block import block as block
from cnnscope.render.page_html.document import document as document
from cnnscope.render.page_html.document import frame as frame
