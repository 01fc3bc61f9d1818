"""The actions of `thinwire store`, one module each, and in `_common.py` what they share."""
