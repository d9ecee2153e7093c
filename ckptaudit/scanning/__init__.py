"""The safety and integrity of files alone, without a model to compare them with."""

from ckptaudit.scanning.result import FileScan, Scan
from ckptaudit.scanning.scan import scan, scan_file

__all__ = ["FileScan", "Scan", "scan", "scan_file"]
