"""segspec: one architecture, written once, generated and proved equal in several frameworks."""

__version__ = "0.1.0"
