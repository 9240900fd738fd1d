"""FlagScale's patch formats, read and written for exchange with it (docs: FlagScale's hardware/).

Legacy: ``hardware/<device>/<commit8>/<commit8>.patch[.encrypted]``, one mailbox for the whole tree.
Current: ``hardware/<device>/<backend>/`` with ``diff.yaml`` and one patch, or one for each file.
"""
