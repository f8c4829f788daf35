"""Keys and signed release repositories: what the publisher of releases runs, never the node.

A repository is a directory that any static HTTP server can serve::

    metadata/    N.root.json, N.targets.json, N.snapshot.json, timestamp.json (TUF, Ed25519)
    targets/     CHANNEL/ARCHITECTURE/SHA256.manifest.json
    artifacts/   SHA256, the kernels, initial RAM disks and root file systems by content, and deltas

``keys`` holds private keys, ``marks`` what they signed, ``signing`` the next version of each role;
``repository`` publishes, refreshes and rotates what ``slotfiles`` and ``targets`` judged;
``deltas`` offers what ``delta_maker`` makes of two files, of which ``squashfs`` knows the blocks;
``channels`` promotes, rolls out, pauses and withdraws; ``offline`` lets keys elsewhere sign the
next root; ``prune`` removes what nothing needs; ``downloads`` signs what people download, by
``sshsig``; ``due`` says what ends, ``verify`` checks as a
stranger would; ``storage`` writes files so that a cut leaves the old release served; ``cli`` is
``kubesolo-release``. The handbook: ``docs/publishing.md``.
"""
