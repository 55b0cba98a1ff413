"""Layers and models explained: `cnnscope explain`, one module for each topic."""

from cnnscope.reports.explain.layer import explain_layers as explain_layers
from cnnscope.reports.explain.layer import explained as explained
from cnnscope.reports.explain.model import explain_model as explain_model
