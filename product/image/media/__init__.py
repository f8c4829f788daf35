"""Media: the disk image in the containers that people start, import and copy.

``kinds`` says which there are and builds any of them, ``convert`` makes the disks of hypervisors,
``oci`` the OCI image and the disk that comes out of one, ``command`` is the command line.
"""
