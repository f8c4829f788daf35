"""The data partition encrypted: LUKS2, its keys in a TPM, on a USB stick and with the operator.

Early boot calls ``boot``, an operator ``cli`` (``kubesolo-data``). ``keys`` says what opens a
volume, ``luks`` drives cryptsetup, ``tpm`` tpm2-tools, ``stick`` the file on a stick, ``recovery``
the key that a person types, ``wish`` what was ordered when the disk was written.
"""
