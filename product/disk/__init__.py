"""The node's boot disk: its partition table, its own identity and the data file system of a first
boot, and the device that ``kubesolo.data=`` names."""
