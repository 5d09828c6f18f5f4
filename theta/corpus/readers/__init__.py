"""Files of any kind -> raw items: find the files, tell their kind by content, and read them in blocks.

find(path) -> File -> read(file) -> Block -> items() -> Item
   finding.py        reading.py     in a worker process
"""
