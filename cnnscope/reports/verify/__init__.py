"""Receptive fields computed and measured, side by side: `cnnscope rf --verify`."""

from cnnscope.reports.verify.report import verify as verify
from cnnscope.reports.verify.report import verify_largest as verify_largest
