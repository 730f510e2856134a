"""python -m occlab"""

from .cli import main

main()
