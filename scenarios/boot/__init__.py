"""Starting: the boot environment, the menu, power cuts while booting."""
