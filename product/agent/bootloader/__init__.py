"""The boot loader's environment block, and what early boot reports of this boot."""
