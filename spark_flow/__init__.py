"""Restartable data flow design patterns for PySpark and Delta Lake.

The pure transforms (``spark_flow.transforms``) work on any DataFrame. The durable patterns take a ``Run``: run the same
command again after a crash, and only the unfinished work runs.
"""

import lazy_loader

# A name's module is imported when the name is used: with pyarrow and the rest, all of them take half a second.
__getattr__, __dir__, _names = lazy_loader.attach_stub(__name__, __file__)
__all__ = [name for name in _names if name != "errors"]  # a module: ``sf.errors.NodeFailed``
